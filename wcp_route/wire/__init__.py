"""What comes over the wire, and what goes: JSON on one side, frozen values on the other.

Models are strict: an unknown field, a wrong type, a value outside its closed set or a duplicate key is an error with a
JSON pointer (RFC 6901) to the place, never a looser reading.
"""
