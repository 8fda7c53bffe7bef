"""Photographs and other pictures: files on disk in, PNG out."""
