"""Helpers of tools/build_glyphs.py: fonts from Debian, characters, rasters, the packed file."""
