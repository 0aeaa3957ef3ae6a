"""The program's address and its clients: claimed and announced; connections restored, asked, or reset."""
