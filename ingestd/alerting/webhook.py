"""Posts alerts to the web server of an operator."""

from http import HTTPStatus
from typing import Final

from aiohttp import ClientError, ClientSession, ClientTimeout

from ingestd.errors import WebhookError

TIMEOUT_SECONDS: Final = 5.0


class Webhook:
    """Posts to one address. No error and no log line shows the address, as it may hold a secret."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def post(self, body: bytes) -> None:
        """Send JSON; any 2xx is success. Raises WebhookError."""
        headers = {"Content-Type": "application/json"}
        try:
            async with (
                # A new one for each request: they are rare, and a connection that is kept would be closed in between.
                ClientSession(timeout=ClientTimeout(total=TIMEOUT_SECONDS)) as session,
                session.post(self._url, data=body, headers=headers, allow_redirects=False) as response,
            ):
                status = response.status
        except TimeoutError as error:
            raise WebhookError(f"the webhook did not answer within {TIMEOUT_SECONDS:.0f} s") from error
        except (ClientError, UnicodeError) as error:  # UnicodeError: the host or the account cannot be encoded
            raise WebhookError(f"the webhook cannot be reached: {type(error).__name__}") from error
        if not HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
            raise WebhookError(f"the webhook answers {status}")
