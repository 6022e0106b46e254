namespace PciOperator.Kubernetes;

/// <summary>The lease that candidates compete for, and the times by which they do it.</summary>
public sealed record LeaseLock
{
    /// <summary>Namespace of the Lease.</summary>
    public required string Namespace { get; init; }

    /// <summary>Name of the Lease.</summary>
    public required string Name { get; init; }

    /// <summary>Who this candidate is; must be unique to this run of the program (e.g. the pod's name and a UUID).</summary>
    public required string Identity { get; init; }

    /// <summary>How long others wait after the last renewal that they saw.</summary>
    public TimeSpan LeaseDuration { get; init; } = TimeSpan.FromSeconds(15);

    /// <summary>How long after its last successful renewal the leader goes on; less than <see cref="LeaseDuration"/>, the rest
    /// is what it has for stopping.</summary>
    public TimeSpan RenewDeadline { get; init; } = TimeSpan.FromSeconds(10);

    /// <summary>How often the leader renews, and others look.</summary>
    public TimeSpan RetryPeriod { get; init; } = TimeSpan.FromSeconds(2);

    internal void Validate()
    {
        if (
            LeaseDuration < TimeSpan.FromSeconds(1)
            || RenewDeadline >= LeaseDuration
            || RetryPeriod * 1.2 >= RenewDeadline
            || RetryPeriod <= TimeSpan.Zero
        )
        {
            throw new ArgumentException(
                $"Leader election needs RetryPeriod × 1.2 < RenewDeadline < LeaseDuration and at least 1 s of lease; got {RetryPeriod}, {RenewDeadline}, {LeaseDuration}."
            );
        }

        if (string.IsNullOrEmpty(Identity))
            throw new ArgumentException("Leader election needs an identity.");
    }
}

/// <summary>Leadership was lost. When this is thrown, <see cref="StillRunning"/> says whether what was to be led has stopped;
/// if not, the process should end at once.</summary>
public sealed class LeadershipLostException(string message, bool stillRunning) : Exception(message)
{
    /// <summary>The work did not stop in time.</summary>
    public bool StillRunning { get; } = stillRunning;
}
