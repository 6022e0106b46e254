namespace PciOperator.Host;

/// <summary>
/// A look at the host that many claims want at about the same time, taken once for all of them: whoever asks gets one that began
/// after the question, so it is as fresh as a look of one's own. Who looks waits for those that are about to ask too.
/// </summary>
/// <param name="read">The look.</param>
/// <param name="isWhole">Whether others may have what it saw; one that failed is nobody else's.</param>
/// <param name="patience">How long one call of the kernel may hold up somebody else: who stands still longer is not waited for.</param>
internal sealed class CoalescedRead<T>(Func<IHostFileSystem, T> read, Func<T, bool> isWhole, TimeSpan patience)
    where T : class
{
    /// <summary>Those that are about to ask are not waited for any longer, though they move.</summary>
    private static readonly TimeSpan LongestGathering = TimeSpan.FromSeconds(1);

    private readonly object _gate = new();
    private readonly HashSet<BlockingWork> _expected = [];
    private readonly HashSet<BlockingWork> _here = [];
    private Look? _running;
    private Look? _next;

    /// <summary>The work is about to ask, perhaps more than once: others wait for it a little, so that one look does for all.</summary>
    public void Expect(BlockingWork work)
    {
        lock (_gate)
            _expected.Add(work);
    }

    /// <summary>The work is not going to ask for now.</summary>
    public void Leave(BlockingWork work)
    {
        lock (_gate)
        {
            if (_expected.Remove(work) && _next is not null && AllAreHere())
                Monitor.PulseAll(_gate);
        }
    }

    /// <summary>Looks, or waits for somebody else's look.</summary>
    /// <param name="files">The host, as it is looked at when it is our turn.</param>
    /// <param name="work">Who asks.</param>
    public T Take(IHostFileSystem files, BlockingWork work)
    {
        while (true)
        {
            Look look;
            lock (_gate)
            {
                look = _next ??= new Look(work);
                _here.Add(work);
                if (AllAreHere())
                    Monitor.PulseAll(_gate);
                if (look.By != work)
                {
                    WaitFor(look);
                    _here.Remove(work);
                }
                else
                {
                    Gather();
                    _running = look;
                    _next = null;
                }
            }

            if (look.By == work)
                return Lead(look, files);
            if (look.Seen is { } seen)
                return seen;
        }
    }

    private T Lead(Look look, IHostFileSystem files)
    {
        T? seen = null;
        try
        {
            return seen = read(files);
        }
        finally
        {
            lock (_gate)
            {
                look.Seen = seen is not null && isWhole(seen) ? seen : null;
                look.Ended = true;
                _here.Remove(look.By);
                if (_running == look)
                    _running = null;
                Monitor.PulseAll(_gate);
            }
        }
    }

    /// <summary>
    /// Until a look of somebody else's has ended or stands still. One of those who wait looks after it, so that the others can sleep.
    /// </summary>
    private void WaitFor(Look look)
    {
        bool watching = false;
        while (!look.Ended && !look.Stands)
        {
            if (!watching && look.Watched)
            {
                Monitor.Wait(_gate);
                continue;
            }

            watching = look.Watched = true;
            if (!Monitor.Wait(_gate, patience) && _running == look)
                LeaveIfStanding(look);
        }
    }

    /// <summary>Until nobody else looks, and those who are about to ask are here, or stand still.</summary>
    private void Gather()
    {
        long began = Environment.TickCount64;
        while (_running is not null || (Environment.TickCount64 - began < LongestGathering.TotalMilliseconds && !AllAreHere()))
        {
            long steps = Steps();
            if (Monitor.Wait(_gate, patience))
                continue;
            if (_running is { } other)
                LeaveIfStanding(other);
            else if (Steps() == steps)
                break;
        }
    }

    private void LeaveIfStanding(Look look)
    {
        if (!look.By.Stands(patience))
            return;
        look.Stands = true;
        _running = null;
        Monitor.PulseAll(_gate);
    }

    private bool AllAreHere() => _expected.All(work => _here.Contains(work) || work.Stands(patience));

    private long Steps() => _expected.Where(work => !_here.Contains(work)).Sum(work => work.Calls);

    private sealed class Look(BlockingWork by)
    {
        /// <summary>Who looks.</summary>
        public BlockingWork By { get; } = by;

        /// <summary>One of those who wait sees to it that it goes on.</summary>
        public bool Watched { get; set; }

        /// <summary>The kernel holds it up: nobody waits for it any more.</summary>
        public bool Stands { get; set; }

        public bool Ended { get; set; }

        /// <summary>Null until it has ended well.</summary>
        public T? Seen { get; set; }
    }
}
