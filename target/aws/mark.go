package aws

import (
	"context"
	"fmt"
	"strconv"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"

	"github.com/daypass/daypass/target"
)

// Mark keeps the mark in the tags of a user that has neither a key nor a right. One account holds one mark of an
// instance: two targets of it in one account see each other as strangers, which changes nothing for either.
func (p *Principals) Mark(ctx context.Context, m target.Mark) (target.Mark, error) {
	seen, err := p.mark(ctx, m)
	if err != nil {
		return target.Mark{}, fmt.Errorf("mark %s: %w", p.title(), err)
	}
	return seen, nil
}

func (p *Principals) mark(ctx context.Context, m target.Mark) (seen target.Mark, err error) {
	name, path := p.prefix()+"mark", p.markPath()
	tags := []types.Tag{
		tag("instance", m.Instance), tag("target", m.Target), tag("boot", strconv.FormatInt(m.Boot, 10)), tag("epoch", strconv.FormatInt(m.Epoch, 10)),
	}
	_, err = p.iam.CreateUser(ctx, &iam.CreateUserInput{UserName: &name, Path: &path, Tags: tags})
	if err == nil || !exists(err) {
		return seen, told(err)
	}
	found, err := p.iam.ListUserTags(ctx, &iam.ListUserTagsInput{UserName: &name})
	if err != nil {
		return seen, told(err)
	}
	for _, t := range found.Tags {
		value := sdk.ToString(t.Value)
		switch sdk.ToString(t.Key) {
		case "instance":
			seen.Instance = value
		case "target":
			seen.Target = value
		case "boot":
			seen.Boot, err = strconv.ParseInt(value, 10, 64)
		case "epoch":
			seen.Epoch, err = strconv.ParseInt(value, 10, 64)
		}
		if err != nil {
			return seen, fmt.Errorf("the tags of user %s are not as we write them", name)
		}
	}
	if seen.Instance == m.Instance && seen.Target == m.Target && seen != m && !seen.After(m) {
		_, err = p.iam.TagUser(ctx, &iam.TagUserInput{UserName: &name, Tags: tags})
	}
	return seen, told(err)
}
