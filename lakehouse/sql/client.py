"""One connection to a Trino server: queries with retries while it is busy, and its errors in our words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote, urlparse

from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_exponential

from lakehouse.errors import NotInstalledError, ServerError, SettingsError, SqlError
from lakehouse.settings import Settings

SOURCE = "reqlake"
BUSY = frozenset(
    {
        "CLUSTER_OUT_OF_MEMORY",
        "EXCEEDED_LOCAL_MEMORY_LIMIT",
        "NO_NODES_AVAILABLE",
        "QUERY_QUEUE_FULL",
        "SERVER_SHUTTING_DOWN",
        "SERVER_STARTING_UP",
    }
)
ATTEMPTS = 4
TIMEOUT_S = 30.0


class Client:
    """Runs statements; each gives a cursor whose first rows have arrived, so that its columns are known."""

    def __init__(self, connection: Any, where: str) -> None:
        self.connection, self.where = connection, where

    def execute(self, statement: str) -> Any:
        """A cursor of `trino.dbapi`. Raises SqlError for what is wrong with the query, ServerError for the server."""
        with self.errors():
            return self._attempts()(self._once, statement)

    def rows(self, statement: str) -> list[list[Any]]:
        """All rows of a small result."""
        cursor = self.execute(statement)
        with self.errors():
            rows: list[list[Any]] = cursor.fetchall()
        return rows

    def _once(self, statement: str) -> Any:
        cursor = self.connection.cursor()
        cursor.execute(statement)
        return cursor

    def _attempts(self) -> Retrying:
        return Retrying(
            retry=retry_if_exception(_is_busy),
            stop=stop_after_attempt(ATTEMPTS),
            wait=wait_exponential(multiplier=0.5, max=8),
            reraise=True,
        )

    def _refused(self) -> ServerError:
        return ServerError(f"Trino at {self.where} refused the login: check user and password in trino.uri")

    @contextmanager
    def errors(self) -> Iterator[None]:
        """What the client raises, in our words."""
        import requests
        from trino import exceptions

        try:
            yield
        except exceptions.TrinoUserError as error:
            raise SqlError(f"Trino says: {error.message}") from error
        except exceptions.TrinoQueryError as error:
            if _is_busy(error):
                raise ServerError(
                    f"Trino at {self.where} is busy ({error.error_name}: {error.message}), {ATTEMPTS} times in a row: "
                    "run this again later, or set trino.uri to another server"
                ) from error
            raise ServerError(f"Trino at {self.where} failed: {error.error_name}: {error.message}") from error
        except exceptions.TrinoAuthError as error:
            raise self._refused() from error
        except (exceptions.Error, exceptions.HttpError, requests.RequestException, OSError) as error:
            if "error 401" in str(error) or "error 403" in str(error):
                raise self._refused() from error
            raise ServerError(
                f"Trino at {self.where} does not answer ({_cause(error)}). Is it up (`reqlake stack status`), and is "
                "trino.uri right? Without REQLAKE_TRINO__URI and [trino] in reqlake.toml, queries run in this process"
            ) from error


@contextmanager
def connected(settings: Settings, *, user: str | None = None, catalog: str | None = None) -> Iterator[Client]:
    """A client of the settings' server. Raises NotInstalledError, SettingsError for an address that is none."""
    try:
        import trino
    except ImportError as error:
        raise NotInstalledError("trino", "trino") from error
    at = urlparse(settings.trino.uri or "")
    if at.scheme not in ("http", "https") or not at.hostname:
        raise SettingsError(f"trino.uri: {settings.trino.uri!r} is not http://host:port or https://user:password@host")
    # With a password, the address says who logs in; without one a name is only a word.
    name = unquote(at.username or "") if at.password else user or settings.trino.user
    password = trino.auth.BasicAuthentication(name, unquote(at.password)) if at.password else None
    connection = trino.dbapi.connect(  # type: ignore[no-untyped-call]
        host=at.hostname,
        port=at.port or (443 if at.scheme == "https" else 80),
        http_scheme=at.scheme,
        user=name,
        auth=password,
        source=SOURCE,
        catalog=catalog or settings.trino.catalog,
        timezone="UTC",
        max_attempts=ATTEMPTS,
        request_timeout=TIMEOUT_S,
    )
    try:
        yield Client(connection, f"{at.scheme}://{at.hostname}:{connection.port}")
    finally:
        connection.close()


def _is_busy(error: BaseException) -> bool:
    return getattr(error, "error_name", None) in BUSY


def _cause(error: BaseException) -> str:
    """The innermost reason, in a line."""
    while error.__cause__ is not None or error.__context__ is not None:
        error = error.__cause__ or error.__context__ or error
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__
