// A workload that speaks OAuth, for tests, in a module of its own: its dependencies are not ours.
module github.com/daypass/daypass/tools/oauthclient/xoauth2

go 1.26.0

require golang.org/x/oauth2 v0.36.0
