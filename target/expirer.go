package target

import (
	"context"
	"time"
)

// Expirer tells when the target itself ends a credential. After the broker's store was restored from a backup, the
// target alone knows how long a credential that the backup lacks, or one that was renewed after it, was promised to
// live.
type Expirer interface {
	// Expiry returns the native expiry of a lease's credential; zero where none is alive there, or where nothing
	// ends it.
	Expiry(ctx context.Context, lease string) (time.Time, error)
}
