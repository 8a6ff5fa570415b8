"""Headwater: where should the training images come from?"""
