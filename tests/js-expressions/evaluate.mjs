// Evaluates expressions with GitHub's own library. Standard input: a JSON array of {expression, contexts};
// standard output: a JSON array, one answer each: {"text": …, "json": …} or {"error": …}.
import { readFileSync } from "node:fs";
import { data, Evaluator, Lexer, Parser } from "@actions/expressions";

function answer({ expression, contexts }) {
  try {
    const context = JSON.parse(JSON.stringify(contexts), data.reviver);
    const tokens = new Lexer(expression).lex().tokens;
    const tree = new Parser(tokens, Object.keys(contexts), []).parse();
    const value = new Evaluator(tree, context).evaluate();
    return { text: value.coerceString(), json: JSON.stringify(value, data.replacer) };
  } catch (error) {
    return { error: String(error.message) };
  }
}

process.stdout.write(JSON.stringify(JSON.parse(readFileSync(0, "utf-8")).map(answer)));
