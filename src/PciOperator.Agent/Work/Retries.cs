namespace PciOperator.Agent;

/// <summary>
/// When work that did not succeed is begun again: soon at first, then less and less often, and at once when something about
/// it has changed. Not thread-safe.
/// </summary>
/// <param name="first">The first delay.</param>
/// <param name="time">What delays are measured by.</param>
/// <param name="longest">The longest delay, in first ones.</param>
internal sealed class Retries(TimeSpan first, TimeProvider time, int longest = 30)
{
    private const int LongestWait = 5;

    // Timers and timestamps are not the same clock to the last millisecond.
    private static readonly TimeSpan Tolerance = TimeSpan.FromMilliseconds(20);
    private readonly Dictionary<string, Attempts> _attempts = [];

    /// <summary>Whether work may be begun: it has not failed, its time has come, or what it depends on is not what it was at the
    /// first question after it failed (its own doing is no reason to begin it again).</summary>
    public bool MayStart(string work, string circumstances)
    {
        if (!_attempts.TryGetValue(work, out Attempts? attempts))
            return true;
        if (attempts.Circumstances is null)
            _attempts[work] = attempts = attempts with { Circumstances = circumstances };
        if (attempts.Circumstances != circumstances)
            _attempts[work] = attempts with { Count = 0, Since = time.GetTimestamp() };
        return attempts.Circumstances != circumstances || time.GetElapsedTime(attempts.Last) + Tolerance >= attempts.Delay;
    }

    /// <summary>Work has not succeeded; how long to wait before it is begun again if nothing changes.</summary>
    /// <param name="work">Which.</param>
    /// <param name="waits">It waits for somebody whose end can't be seen (a process that has a device open): asked after steadily, not
    /// doubling.</param>
    public TimeSpan Failed(string work, bool waits = false)
    {
        long now = time.GetTimestamp();
        if (!_attempts.TryGetValue(work, out Attempts? before) || before.Waits != waits)
            before = new Attempts(0, now, now, TimeSpan.Zero, null, waits);
        int factor = waits
            ? time.GetElapsedTime(before.Since, now) < first * longest
                ? 1
                : LongestWait
            : Math.Min(1 << Math.Min(before.Count, 10), longest);
        _attempts[work] = before with { Count = before.Count + 1, Last = now, Delay = first * factor, Circumstances = null };
        return first * factor;
    }

    /// <summary>Work has succeeded, or is not wanted any more.</summary>
    public void Forget(string work) => _attempts.Remove(work);

    /// <summary>Forgets all work but this.</summary>
    public void Keep(Func<string, bool> work)
    {
        foreach (string gone in _attempts.Keys.Where(w => !work(w)).ToList())
            _attempts.Remove(gone);
    }

    private sealed record Attempts(int Count, long Since, long Last, TimeSpan Delay, string? Circumstances, bool Waits);
}
