"""Hold credit of an account for one rendering, do the work, and charge what it came to.

GATEWAY_URL, CREDIT_TOKEN; the account is the argument.
"""

import asyncio
import os
import sys

from gateway.client import CreditClient, Refused


async def render(account: str) -> int:
    """One call of a customer's."""
    async with CreditClient(os.environ["GATEWAY_URL"], os.environ["CREDIT_TOKEN"]) as credit:
        try:
            async with credit.hold(account=account, route="rendering.create", estimate={"megapixels": 20}) as hold:
                print(f"held: {hold.held}")
                # The work is done here. If it raises, or is cancelled, the hold is given back; while it lasts, renewed.
                receipt = await hold.settle({"megapixels": "12.5"})
                print(f"charged: {receipt.charged}")
        except Refused as refused:
            print(f"refused: {refused.status} {refused.detail}")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(render(sys.argv[1])))
