"""Triton kernels and their tile tables. Importing a module of this folder imports triton."""
