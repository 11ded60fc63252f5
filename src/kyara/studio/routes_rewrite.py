"""Requests of the room Rewrite."""

from __future__ import annotations

from fastapi import APIRouter

router = APIRouter(prefix="/api/rewrite")
