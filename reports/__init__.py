"""The result store and everything that is computed, drawn and written from it.

Importing this package loads no plotting or table library; each module says what it needs.
"""
