package chaos

import (
	"strings"
	"testing"
	"time"
)

// at is a moment of a history.
func at(second int) time.Time {
	return time.Unix(1_700_000_000, 0).Add(time.Duration(second) * time.Second)
}

func saw(asked, told int, what string) observation {
	return observation{asked: at(asked), told: at(told), what: what, by: "a replica"}
}

func TestAHistoryIsJudged(t *testing.T) {
	for name, c := range map[string]struct {
		life
		wrong string // in the only complaint; empty: there must be none
	}{
		"a whole life": {life: life{promises: []promise{{at(1), at(60)}}, ended: at(10), seen: []observation{
			saw(0, 1, active), saw(2, 3, opens), saw(10, 11, revoking), saw(12, 13, revoked), saw(14, 15, refused), saw(16, 17, revoked)}}},
		"a life that skips what nobody saw":               {life: life{ended: at(1), seen: []observation{saw(0, 1, pending), saw(2, 3, revoked)}}},
		"two at once may be answered in either order":     {life: life{ended: at(1), seen: []observation{saw(2, 6, revoked), saw(3, 7, active)}}},
		"an answer may be older than a later question":    {life: life{ended: at(1), seen: []observation{saw(2, 9, active), saw(3, 4, revoked)}}},
		"told and asked in the same instant are at once":  {life: life{ended: at(1), seen: []observation{saw(2, 3, revoked), saw(3, 4, active)}}},
		"revoking is taken back":                          {life: life{ended: at(1), seen: []observation{saw(2, 3, revoking), saw(4, 5, active)}}, wrong: "active (a replica"},
		"a death is taken back":                           {life: life{ended: at(1), seen: []observation{saw(2, 3, revoked), saw(4, 5, revoking)}}, wrong: "takes back revoked"},
		"an active lease is pending again":                {life: life{seen: []observation{saw(0, 1, active), saw(2, 3, pending)}}, wrong: "takes back active"},
		"the earlier answer was told out of order":        {life: life{ended: at(1), seen: []observation{saw(9, 10, active), saw(2, 3, revoked)}}, wrong: "takes back revoked"},
		"a slow question between hides nothing":           {life: life{ended: at(1), seen: []observation{saw(2, 3, revoked), saw(1, 20, active), saw(21, 22, active)}}, wrong: "takes back"},
		"a lease is forgotten":                            {life: life{seen: []observation{saw(0, 1, active), saw(2, 3, missing)}}, wrong: "missing"},
		"a credential opens after its death":              {life: life{ended: at(1), seen: []observation{saw(2, 3, revoked), saw(4, 5, opens)}}, wrong: "opens (a replica"},
		"a credential opens while it is being revoked":    {life: life{ended: at(1), seen: []observation{saw(2, 3, revoking), saw(4, 5, opens)}}},
		"a credential that is tried while it dies":        {life: life{ended: at(1), seen: []observation{saw(2, 4, revoked), saw(3, 5, opens)}}},
		"it ends before its time":                         {life: life{promises: []promise{{at(1), at(60)}}, seen: []observation{saw(2, 3, revoking)}}, wrong: "ended without being asked"},
		"its credential dies before its time":             {life: life{promises: []promise{{at(1), at(60)}}, seen: []observation{saw(2, 3, refused)}}, wrong: "ended without being asked"},
		"it ends at its time":                             {life: life{promises: []promise{{at(1), at(60)}}, seen: []observation{saw(59, 60, revoking)}}},
		"it ends before its time, and was asked to after": {life: life{promises: []promise{{at(1), at(60)}}, ended: at(5), seen: []observation{saw(2, 3, revoking)}}, wrong: "ended without being asked"},
		"it ends while it is asked to":                    {life: life{promises: []promise{{at(1), at(60)}}, ended: at(5), seen: []observation{saw(2, 5, revoking)}}},
		"a renewal is forgotten":                          {life: life{promises: []promise{{at(1), at(10)}, {at(5), at(60)}}, seen: []observation{saw(11, 12, revoked)}}, wrong: "promised until"},
		"a renewal that was told too late":                {life: life{promises: []promise{{at(1), at(10)}, {at(15), at(60)}}, seen: []observation{saw(11, 12, revoked)}}},
	} {
		t.Run(name, func(t *testing.T) {
			c.id = "l"
			wrong := c.check()
			switch {
			case c.wrong == "" && len(wrong) > 0:
				t.Errorf("refused: %v", wrong)
			case c.wrong != "" && len(wrong) != 1:
				t.Errorf("want one complaint: %v", wrong)
			case c.wrong != "" && !strings.Contains(wrong[0].Error(), c.wrong):
				t.Errorf("want a complaint about %q: %v", c.wrong, wrong[0])
			}
		})
	}
}
