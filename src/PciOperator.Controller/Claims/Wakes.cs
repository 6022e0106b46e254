namespace PciOperator.Controller;

/// <summary>
/// How soon claims that wait are looked at when something may help them: at once, unless that was so very often of late. A node whose devices come and go all the
/// time, or whose agent says so, costs few looks then, and a claim is never kept waiting for long. Used by one thread at a time.
/// </summary>
internal sealed class Wakes(TimeProvider time)
{
    private const int AtOnce = 10;
    private static readonly TimeSpan s_least = TimeSpan.FromMilliseconds(100);
    private static readonly TimeSpan s_most = TimeSpan.FromSeconds(2);
    private static readonly TimeSpan s_quiet = TimeSpan.FromMinutes(1);
    private readonly Dictionary<string, (int Count, long Last)> _wakes = [];
    private long _prunedAt = time.GetTimestamp();

    /// <summary>The delay for a claim that is woken now.</summary>
    public TimeSpan DelayOf(string uid)
    {
        Prune();
        var count = _wakes.TryGetValue(uid, out var known) && time.GetElapsedTime(known.Last) < s_quiet ? known.Count + 1 : 1;
        _wakes[uid] = (count, time.GetTimestamp());
        if (count <= AtOnce)
            return TimeSpan.Zero;
        var delay = s_least * Math.Pow(2, Math.Min(count - AtOnce - 1, 16));
        return delay < s_most ? delay : s_most;
    }

    /// <summary>Whoever was not woken for a while, or is gone, is forgotten.</summary>
    private void Prune()
    {
        if (time.GetElapsedTime(_prunedAt) < s_quiet)
            return;
        _prunedAt = time.GetTimestamp();
        foreach (var (uid, wake) in _wakes)
        {
            if (time.GetElapsedTime(wake.Last) >= s_quiet)
                _wakes.Remove(uid);
        }
    }
}
