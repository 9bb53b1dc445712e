"""The published allocators, written from their papers: no code of theirs is used."""
