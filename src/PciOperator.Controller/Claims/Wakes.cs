namespace PciOperator.Controller;

/// <summary>
/// How soon claims that wait are looked at when something may help them: at once, unless that was so very often of late. A node whose
/// devices come and go all the time, or whose agent says so, costs few looks then, and a claim is never kept waiting for long. Used by one
/// thread at a time.
/// </summary>
internal sealed class Wakes(TimeProvider time)
{
    private const int AtOnce = 10;
    private static readonly TimeSpan Least = TimeSpan.FromMilliseconds(100);
    private static readonly TimeSpan Most = TimeSpan.FromSeconds(2);
    private static readonly TimeSpan Quiet = TimeSpan.FromMinutes(1);
    private readonly Dictionary<string, (int Count, long Last)> _wakes = [];
    private long _prunedAt = time.GetTimestamp();

    /// <summary>The delay for a claim that is woken now.</summary>
    public TimeSpan DelayOf(string uid)
    {
        Prune();
        int count =
            _wakes.TryGetValue(uid, out (int Count, long Last) known) && time.GetElapsedTime(known.Last) < Quiet ? known.Count + 1 : 1;
        _wakes[uid] = (count, time.GetTimestamp());
        if (count <= AtOnce)
            return TimeSpan.Zero;
        TimeSpan delay = Least * Math.Pow(2, Math.Min(count - AtOnce - 1, 16));
        return delay < Most ? delay : Most;
    }

    /// <summary>Whoever was not woken for a while, or is gone, is forgotten.</summary>
    private void Prune()
    {
        if (time.GetElapsedTime(_prunedAt) < Quiet)
            return;
        _prunedAt = time.GetTimestamp();
        foreach ((string uid, (int Count, long Last) wake) in _wakes)
        {
            if (time.GetElapsedTime(wake.Last) >= Quiet)
                _wakes.Remove(uid);
        }
    }
}
