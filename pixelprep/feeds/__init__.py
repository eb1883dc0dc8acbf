"""Feeds for training frameworks: a short module each, loaded only when it is used."""
