namespace PciOperator.Host;

/// <summary>
/// Threads for work that blocks as the kernel does, perhaps for ever: never those of the pool, which others need. One whose work
/// has ended waits a little for the next, since claims come and go many at a time, and making a thread costs more than much of the work.
/// </summary>
internal sealed class WorkThread
{
    private static readonly TimeSpan IdleTime = TimeSpan.FromSeconds(5);
    private static readonly Lock Gate = new();
    private static readonly List<WorkThread> Idle = [];

    private readonly object _own = new();
    private (string Name, Action Body)? _next;

    /// <summary>Runs the body at once, on a thread of its own for as long as it lasts.</summary>
    /// <param name="name">What the thread is called meanwhile; the kernel shows its first 15 characters.</param>
    /// <param name="body">Must not throw.</param>
    public static void Run(string name, Action body)
    {
        WorkThread? thread = null;
        lock (Gate)
        {
            if (Idle.Count > 0)
            {
                thread = Idle[^1];
                Idle.RemoveAt(Idle.Count - 1);
            }
        }

        if (thread is null)
        {
            new Thread(new WorkThread { _next = (name, body) }.Work) { IsBackground = true }.Start();
            return;
        }

        lock (thread._own)
        {
            thread._next = (name, body);
            Monitor.Pulse(thread._own);
        }
    }

    private void Work()
    {
        do
        {
            (string name, Action body) = _next!.Value;
            _next = null;
            Thread.CurrentThread.Name = name;
            body();
            Thread.CurrentThread.Name = "idle";
        } while (IsWanted());
    }

    private bool IsWanted()
    {
        lock (_own)
        {
            lock (Gate)
                Idle.Add(this);
            Monitor.Wait(_own, IdleTime);
            if (_next is not null)
                return true;
            lock (Gate)
            {
                if (Idle.Remove(this))
                    return false;
            }

            // Chosen just now.
            while (_next is null)
                Monitor.Wait(_own);
            return true;
        }
    }
}
