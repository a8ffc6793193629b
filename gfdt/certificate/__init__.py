"""The certificate: does a score stand for the density of a record, and what speaks against it?"""
