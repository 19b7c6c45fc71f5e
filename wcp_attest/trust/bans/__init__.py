"""Ban lists: the document, its signatures, where it comes from, and how a package is looked up in it."""
