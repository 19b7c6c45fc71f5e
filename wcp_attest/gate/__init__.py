"""What a host asks before it installs or loads a package: may this run under the operator's policy?

    host ──request──▶ adapter.read ──▶ paths ──▶ decide ──▶ answers ──▶ adapter.answer ──▶ host

`decide` is the whole gate; an adapter only knows the words of one host. Each has the same three functions: `read` turns
the host's request into paths, `answer` turns the answers into what the host expects, `failure` says no in the host's
words when there is no answer. There is no fourth way out: a request that is malformed, of another version, or about a
package that cannot be found is a no.
"""
