"""The generator behind `scenes`: model, cast, painting and writing, one file each."""
