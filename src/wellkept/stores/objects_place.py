"""Where objects are: a URL and options, checked before anything is asked of anybody."""

from __future__ import annotations

import datetime
import os
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

from wellkept.errors import ConfigError
from wellkept.stores.objects_driver import driver
from wellkept.stores.objects_errors import scrubbed

__all__ = ["Backend"]

_FAMILIES = {"s3": "s3", "s3a": "s3", "gs": "gs", "az": "az", "azure": "az", "abfs": "az"}
_FAMILIES |= {"abfss": "az", "adl": "az", "file": "file", "memory": "memory"}

# Where credentials may come from: an environment variable or an option of such a name.
_SOURCES = {
    "s3": (
        "AWS_",
        "access_key_id|web_identity|container_credentials|skip_signature|metadata_endpoint",
        "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give skip_signature=True for a public "
        "bucket, or metadata_endpoint='http://169.254.169.254' for those of this machine's role",
    ),
    "gs": (
        "GOOGLE_",
        "service_account|credentials|skip_signature|bearer_token",
        "set GOOGLE_APPLICATION_CREDENTIALS, or give skip_signature=True for a public bucket",
    ),
    "az": (
        "AZURE_",
        "key|secret|token|sas|msi_|identity|use_azure_cli|skip_signature",
        "set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY, or give "
        "skip_signature=True for a public container",
    ),
}


class Backend:
    """A bucket, container or directory, and a prefix in it.

    Raises:
        ConfigError: the URL is none of an object store, or there are no credentials for it.
    """

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        self._url, self._options = url, options
        self.family, self.shown = _shown(url)
        _check_credentials(self.family, self.shown, options)

    def open(self) -> tuple[Any, Any]:
        """One store of obstore's that tries again, and one that does not.

        Raises:
            ConfigError: an option is wrong, or obstore is not installed.
        """
        obs = driver()
        try:
            if self.family == "memory":
                store = obs.store.MemoryStore(**self._options)
            elif self.family == "file":
                backend = unquote(urlsplit(self._url).path)
                store = obs.store.LocalStore(prefix=backend, mkdir=True, **self._options)
            else:
                return self._remote(3), self._remote(0)
        except (obs.exceptions.BaseError, OSError, TypeError, ValueError) as error:
            # The driver's message may quote an option, and so a secret.
            cause = scrubbed(error, self._options)
            line = str(cause).partition("\n")[0][:200]
            raise ConfigError(f"can't open {self.shown}: {line}") from cause
        return store, store

    def _remote(self, retries: int) -> Any:
        options = dict(self._options)
        seconds = datetime.timedelta(seconds=1)
        # Half a minute without an answer or more of it; a slow line may take longer for all.
        client: dict[str, Any] = {"connect_timeout": "5s", "read_timeout": "30s", "timeout": "300s"}
        client |= options.pop("client_options", {})
        retry = {"max_retries": retries, "retry_timeout": 30 * seconds}
        retry["backoff"] = {"init_backoff": seconds / 10, "max_backoff": 2 * seconds, "base": 2}
        if given := options.pop("retry_config", None):
            retry = {**retry, **given, **({} if retries else {"max_retries": 0})}
        endpoint = options.get("endpoint") or os.environ.get("AWS_ENDPOINT_URL", "")
        if self.family == "s3" and endpoint.startswith("http://"):
            client.setdefault("allow_http", True)  # it was said, as plainly as can be
        from_url = driver().store.from_url
        return from_url(self._url, client_options=client, retry_config=retry, **options)


def _check_credentials(scheme: str, where: str, options: Mapping[str, Any]) -> None:
    """Nobody is asked for credentials who was not named: neither a file nor the network.

    Raises:
        ConfigError: there are none.
    """
    if scheme not in _SOURCES or "credential_provider" in options:
        return
    start, names, advice = _SOURCES[scheme]
    known = re.compile(names, re.IGNORECASE)
    given = [*options, *options.get("config", ())]
    given += [name for name in os.environ if name.startswith(start)]
    if not any(known.search(name) for name in given):
        raise ConfigError(f"no credentials for {where}: {advice}")


def _shown(url: str) -> tuple[str, str]:
    """The family of the URL, and the URL as it may be shown.

    Raises:
        ConfigError: it is none of an object store.
    """
    try:
        parts = urlsplit(url)
        secret = parts.password is not None or (parts.username and parts.scheme[:4] != "abfs")
    except ValueError:
        raise ConfigError("not an object store's URL: it can't be read") from None
    family = _FAMILIES.get(parts.scheme)
    if family is None:
        raise ConfigError(f"not an object store's URL: {parts.scheme or 'no scheme'}; give s3://…")
    if secret or parts.query or parts.fragment:
        raise ConfigError("credentials and options are no part of an object store's URL")
    if bool(parts.netloc) == (family in ("file", "memory")):
        raise ConfigError(f"not an object store's URL: {url}; give s3://bucket/prefix or file:///…")
    if family == "file" and parts.path.strip("/") == "":
        raise ConfigError(f"not an object store's URL: {url}; name a directory")
    return family, url.rstrip("/") or url
