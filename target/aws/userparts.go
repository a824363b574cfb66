package aws

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/service/iam"
)

// unsupported forgives that a service which speaks IAM does not have a kind of credential: nobody can have one then.
func unsupported(err error) error {
	if code := said(err); code == "NotImplemented" || code == "InvalidAction" || code == "UnknownOperationException" {
		return nil
	}
	return err
}

func (u users) dropLogin(ctx context.Context, name string) error {
	_, err := u.iam.DeleteLoginProfile(ctx, &iam.DeleteLoginProfileInput{UserName: &name})
	return absent(err)
}

func (u users) dropDevices(ctx context.Context, name string) error {
	found, err := u.iam.ListMFADevices(ctx, &iam.ListMFADevicesInput{UserName: &name})
	if err != nil {
		return absent(err)
	}
	for _, device := range found.MFADevices {
		_, err := u.iam.DeactivateMFADevice(ctx, &iam.DeactivateMFADeviceInput{UserName: &name, SerialNumber: device.SerialNumber})
		if absent(err) == nil { // a virtual device stays behind otherwise; one of hardware has nothing to delete
			_, err = u.iam.DeleteVirtualMFADevice(ctx, &iam.DeleteVirtualMFADeviceInput{SerialNumber: device.SerialNumber})
			if code := said(err); code == "ValidationError" || code == "AccessDenied" {
				err = nil
			}
		}
		if err := absent(err); err != nil {
			return err
		}
	}
	return nil
}

func (u users) dropSSHKeys(ctx context.Context, name string) error {
	found, err := u.iam.ListSSHPublicKeys(ctx, &iam.ListSSHPublicKeysInput{UserName: &name})
	if err != nil {
		return unsupported(absent(err))
	}
	for _, key := range found.SSHPublicKeys {
		if _, err := u.iam.DeleteSSHPublicKey(ctx, &iam.DeleteSSHPublicKeyInput{UserName: &name, SSHPublicKeyId: key.SSHPublicKeyId}); absent(err) != nil {
			return told(err)
		}
	}
	return nil
}

func (u users) dropServiceCredentials(ctx context.Context, name string) error {
	found, err := u.iam.ListServiceSpecificCredentials(ctx, &iam.ListServiceSpecificCredentialsInput{UserName: &name})
	if err != nil {
		return unsupported(absent(err))
	}
	for _, one := range found.ServiceSpecificCredentials {
		in := &iam.DeleteServiceSpecificCredentialInput{UserName: &name, ServiceSpecificCredentialId: one.ServiceSpecificCredentialId}
		if _, err := u.iam.DeleteServiceSpecificCredential(ctx, in); absent(err) != nil {
			return told(err)
		}
	}
	return nil
}

func (u users) dropCertificates(ctx context.Context, name string) error {
	found, err := u.iam.ListSigningCertificates(ctx, &iam.ListSigningCertificatesInput{UserName: &name})
	if err != nil {
		return unsupported(absent(err))
	}
	for _, one := range found.Certificates {
		in := &iam.DeleteSigningCertificateInput{UserName: &name, CertificateId: one.CertificateId}
		if _, err := u.iam.DeleteSigningCertificate(ctx, in); absent(err) != nil {
			return told(err)
		}
	}
	return nil
}

func (u users) dropInline(ctx context.Context, name string) error {
	pages := iam.NewListUserPoliciesPaginator(u.iam, &iam.ListUserPoliciesInput{UserName: &name})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return absent(err)
		}
		for _, policy := range page.PolicyNames {
			if _, err := u.iam.DeleteUserPolicy(ctx, &iam.DeleteUserPolicyInput{UserName: &name, PolicyName: &policy}); absent(err) != nil {
				return told(err)
			}
		}
	}
	return nil
}

func (u users) dropAttached(ctx context.Context, name string) error {
	pages := iam.NewListAttachedUserPoliciesPaginator(u.iam, &iam.ListAttachedUserPoliciesInput{UserName: &name})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return absent(err)
		}
		for _, policy := range page.AttachedPolicies {
			if _, err := u.iam.DetachUserPolicy(ctx, &iam.DetachUserPolicyInput{UserName: &name, PolicyArn: policy.PolicyArn}); absent(err) != nil {
				return told(err)
			}
		}
	}
	return nil
}

func (u users) leaveGroups(ctx context.Context, name string) error {
	pages := iam.NewListGroupsForUserPaginator(u.iam, &iam.ListGroupsForUserInput{UserName: &name})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return absent(err)
		}
		for _, group := range page.Groups {
			if _, err := u.iam.RemoveUserFromGroup(ctx, &iam.RemoveUserFromGroupInput{UserName: &name, GroupName: group.GroupName}); absent(err) != nil {
				return told(err)
			}
		}
	}
	return nil
}
