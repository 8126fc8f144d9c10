"""Catalog rows in, sound (FLAC in Parquet) and pictures out: downloads, ffmpeg, and the reason where there is none."""
