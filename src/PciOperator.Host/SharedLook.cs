namespace PciOperator.Host;

/// <summary>
/// A look at the host that many claims want at the same time, taken once for all of them: whoever asks gets one that began
/// after the question, so it is as fresh as a look of one's own.
/// </summary>
internal sealed class SharedLook<T>
    where T : class
{
    /// <summary>A look in which no call has returned for so long is not waited for: the kernel may be holding it up.</summary>
    private static readonly TimeSpan Patience = TimeSpan.FromMilliseconds(5);

    private readonly object gate = new();
    private Look? running;
    private Look? next;

    /// <summary>Looks, or waits for somebody else's look.</summary>
    /// <param name="files">The host, as it is looked at when it is our turn.</param>
    /// <param name="read">The look. One that fails is nobody else's.</param>
    public T Take(WatchedFileSystem files, Func<IHostFileSystem, T> read)
    {
        Look mine;
        lock (gate)
        {
            mine = next ??= new Look();
            while (!mine.Ended && running is { } other)
            {
                long calls = other.Files!.Calls;
                if (!Monitor.Wait(gate, Patience) && other.Files.Calls == calls)
                    break;
            }

            if (!mine.Ended && running is null)
            {
                mine.Files = files;
                running = mine;
                next = null;
            }
        }

        if (!ReferenceEquals(mine.Files, files))
            return mine.Result ?? read(files);
        try
        {
            return mine.Result = read(files);
        }
        finally
        {
            lock (gate)
            {
                mine.Ended = true;
                running = null;
                Monitor.PulseAll(gate);
            }
        }
    }

    private sealed class Look
    {
        /// <summary>Who looks; null until it begins.</summary>
        public WatchedFileSystem? Files { get; set; }

        public bool Ended { get; set; }

        /// <summary>Null until it has ended well.</summary>
        public T? Result { get; set; }
    }
}

/// <summary>What every claim's guards look at, whatever its devices are.</summary>
internal sealed class HostLooks
{
    private readonly SharedLook<HostUse> use = new();
    private readonly SharedLook<ProcessFiles> processes = new();

    /// <summary>How the host uses its devices now.</summary>
    public static HostUse Use(IHostFileSystem files) =>
        files is WatchedFileSystem { Looks: { } looks } watched ? looks.use.Take(watched, HostUse.Read) : HostUse.Read(files);

    /// <summary>What processes have open now.</summary>
    public static ProcessFiles Processes(IHostFileSystem files) =>
        files is WatchedFileSystem { Looks: { } looks } watched ? looks.processes.Take(watched, ProcessFiles.Read) : ProcessFiles.Read(files);
}
