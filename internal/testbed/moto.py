# Runs moto's server, with what these tests need of AWS and moto lacks:
# - AssumeRoleWithWebIdentity needs no signature, also when IAM is enforced. Moto does not look at the token at all.
# - A deny under DateGreaterThan aws:CurrentTime holds after that time and not before. Moto takes every condition that it
#   does not know for met.
# - A user has no service-specific credentials. Moto answers 500 to who asks.
import datetime
import sys

from moto.core.responses import ActionResult
from moto.iam import access_control
from moto.iam.responses import IamResponse
from moto.server import main
from moto.sts.responses import TokenResponse

checked = TokenResponse._authenticate_and_authorize_normal_action


def unsigned(self, resource="*"):
    if self._get_action() != "AssumeRoleWithWebIdentity":
        checked(self, resource)


TokenResponse._authenticate_and_authorize_normal_action = unsigned

judged = access_control.IAMPolicyStatement.is_action_permitted


def timely(self, action, *args, **kwargs):
    until = (self._statement.get("Condition") or {}).get("DateGreaterThan", {}).get("aws:CurrentTime")
    if until is None:
        return judged(self, action, *args, **kwargs)
    if datetime.datetime.now(datetime.timezone.utc) <= datetime.datetime.fromisoformat(until.replace("Z", "+00:00")):
        return access_control.PermissionResult.NEUTRAL
    return access_control.PermissionResult.DENIED


access_control.IAMPolicyStatement.is_action_permitted = timely

IamResponse.list_service_specific_credentials = lambda self: ActionResult({"ServiceSpecificCredentials": []})

main(sys.argv[1:])
