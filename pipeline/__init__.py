"""From recordings to one dataset table per corpus: catalog -> media -> features -> dataset."""
