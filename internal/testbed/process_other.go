//go:build !linux

package testbed

import "syscall"

// attributes makes a child that runs as uid and gid (when they are not ours).
func attributes(uid, gid uint32, change bool) *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Setpgid: true}
	if change {
		attr.Credential = &syscall.Credential{Uid: uid, Gid: gid}
	}
	return attr
}
