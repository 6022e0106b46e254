using System.Diagnostics;
using PciOperator.Core;

namespace PciOperator.Host;

/// <summary>
/// One piece of work on the host, on a thread of its own, since the kernel's calls block and can't be cancelled. A call that
/// lasts longer than the limit makes the work stalled; when it returns the work goes on.
/// </summary>
internal sealed class BlockingWork : IDisposable
{
    private readonly Lock _gate = new();
    private readonly TimeProvider _time;
    private readonly TimeSpan _limit;
    private readonly ITimer _timer;
    private readonly TaskCompletionSource _ended = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private TaskCompletionSource _stalled = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private (string Operation, string Path)? _doing;
    private long _since;
    private long _began;
    private long _calls;
    private bool _armed;

    public BlockingWork(TimeProvider time, TimeSpan limit)
    {
        _time = time;
        _limit = limit;
        _timer = time.CreateTimer(_ => Check(), null, Timeout.InfiniteTimeSpan, Timeout.InfiniteTimeSpan);
    }

    /// <summary>Called when a call lasts too long, with what it does.</summary>
    public Action<string>? Stalled { get; init; }

    /// <summary>Called when a stalled call has returned.</summary>
    public Action? Resumed { get; init; }

    /// <summary>Done when the work's body has ended.</summary>
    public Task Ended => _ended.Task;

    /// <summary>Done at the end, or earlier when the work stalls.</summary>
    public Task EndedOrStalled
    {
        get
        {
            lock (_gate)
                return Task.WhenAny(_ended.Task, _stalled.Task);
        }
    }

    /// <summary>Whether a call lasts too long now.</summary>
    public bool IsStalled
    {
        get
        {
            lock (_gate)
                return _stalled.Task.IsCompleted;
        }
    }

    /// <summary>Nobody wants the result any more: undo at the next step.</summary>
    public bool Abandoned { get; set; }

    /// <summary>
    /// What the next calls do, for the sentence about a stall ("unbinding 0000:21:00.0 from igb"); null: the call's own words.
    /// </summary>
    public string? Purpose { get; set; }

    public void Start(string name, Action body)
    {
        // The thread may be one that another's span has left behind.
        Activity? span = Activity.Current;
        WorkThread.Run(
            name,
            () =>
            {
                Activity.Current = span;
                try
                {
                    body();
                }
                finally
                {
                    _timer.Dispose();
                    _ended.TrySetResult();
                }
            }
        );
    }

    /// <summary>Lets time pass before something is tried or looked at again. No call of the kernel's is under way then.</summary>
    public void Pause(TimeSpan delay) => Task.Delay(delay, _time).GetAwaiter().GetResult();

    /// <summary>The present, to measure by.</summary>
    public long Timestamp => _time.GetTimestamp();

    /// <summary>Since a <see cref="Timestamp"/>.</summary>
    public TimeSpan Elapsed(long timestamp) => _time.GetElapsedTime(timestamp);

    /// <summary>How many calls have begun or returned.</summary>
    public long Calls => Volatile.Read(ref _calls);

    /// <summary>Whether one call has lasted for so long, by the real clock: others don't wait for it meanwhile.</summary>
    public bool Stands(TimeSpan patience) =>
        Volatile.Read(ref _began) is var at and not 0 && Environment.TickCount64 - at >= patience.TotalMilliseconds;

    /// <summary>A call begins: "reading" and a path, for example.</summary>
    /// <param name="operation">What it does.</param>
    /// <param name="path">To what.</param>
    /// <param name="ends">It waits for a disk at most, and for no device.</param>
    public void Enter(string operation, string path, bool ends = false)
    {
        lock (_gate)
        {
            _calls++;
            _began = ends ? 0 : Environment.TickCount64;
            _doing = (operation, path);
            _since = _time.GetTimestamp();

            // The timer is set when it goes off, not at each call: there are hundreds of those, and they are short.
            if (!_armed)
                _armed = _timer.Change(_limit, Timeout.InfiniteTimeSpan);
        }
    }

    /// <summary>The call has returned.</summary>
    public void Leave()
    {
        bool resumed;
        lock (_gate)
        {
            _calls++;
            _began = 0;
            _doing = null;
            resumed = _stalled.Task.IsCompleted;
            if (resumed)
                _stalled = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        }

        if (resumed)
            Resumed?.Invoke();
    }

    public void Dispose() => _timer.Dispose();

    private void Check()
    {
        string what;
        lock (_gate)
        {
            // It was set at an earlier call.
            TimeSpan left = _doing is null ? _limit : _limit - _time.GetElapsedTime(_since);
            _armed = _doing is not null && left > TimeSpan.Zero && _timer.Change(left, Timeout.InfiniteTimeSpan);
            if (_doing is null || left > TimeSpan.Zero)
                return;
            what = Purpose ?? $"{_doing.Value.Operation} {_doing.Value.Path}";
        }

        Stalled?.Invoke(what);
        lock (_gate)
        {
            if (_doing is not null)
                _stalled.TrySetResult();
        }
    }
}

/// <summary>Every call of the host is watched by the work that makes it; looks at all of the host are shared with other work.</summary>
internal sealed class WatchedFileSystem(IHostFileSystem files, BlockingWork work, SharedReads looks) : IHostFileSystem
{
    /// <summary>How the host uses its devices now, what its processes have open, and other namespaces.</summary>
    public HostUsage Usage() => looks.Usage.Take(this, work);

    /// <summary>What processes have open now.</summary>
    /// <exception cref="HostIoException">It can't be read.</exception>
    public ProcessFiles Processes() => looks.Processes.Take(this, work);

    public bool Exists(string path) => Watch("looking for", path, static (f, p) => f.Exists(p));

    public string? ReadText(string path) => Watch("reading", path, static (f, p) => f.ReadText(p));

    public byte[]? ReadBytes(string path, int max) => Watch("reading", path, (f, p) => f.ReadBytes(p, max));

    public string? ReadLink(string path) => Watch("reading", path, static (f, p) => f.ReadLink(p));

    public IReadOnlyList<string> List(string path) => Watch("listing", path, static (f, p) => f.List(p));

    public IReadOnlyList<string> ListFolders(string path) => Watch("listing", path, static (f, p) => f.ListFolders(p));

    public void Write(string path, string value) =>
        Watch(
            $"writing '{value.TrimEnd('\n')}' to",
            path,
            (f, p) =>
            {
                f.Write(p, value);
                return true;
            }
        );

    public void WriteDurably(string path, ReadOnlySpan<byte> content)
    {
        work.Enter("writing", path, ends: true);
        try
        {
            files.WriteDurably(path, content);
        }
        finally
        {
            work.Leave();
        }
    }

    public void WriteForOthers(string path, ReadOnlySpan<byte> content)
    {
        work.Enter("writing", path, ends: true);
        try
        {
            files.WriteForOthers(path, content);
        }
        finally
        {
            work.Leave();
        }
    }

    public void DeleteEmptyFolder(string path) =>
        Watch(
            "deleting",
            path,
            static (f, p) =>
            {
                f.DeleteEmptyFolder(p);
                return true;
            }
        );

    public void Delete(string path) =>
        Watch(
            "deleting",
            path,
            static (f, p) =>
            {
                f.Delete(p);
                return true;
            }
        );

    public string? TakeFolder(string folder) => Watch("taking", folder, static (f, p) => f.TakeFolder(p));

    public DeviceNumber? DeviceAt(string path) => Watch("looking at", path, static (f, p) => f.DeviceAt(p));

    public IDisposable? ClaimBlockDevice(string node) => Watch("opening", node, static (f, p) => f.ClaimBlockDevice(p));

    public DeviceNumber? LoopedDevice(string node) => Watch("asking", node, static (f, p) => f.LoopedDevice(p));

    public HostNetwork ReadNetwork() => Watch("reading", "the host's network", static (f, _) => f.ReadNetwork());

    public void LoadModule(string name) =>
        Watch(
            "loading the module",
            name,
            static (f, p) =>
            {
                f.LoadModule(p);
                return true;
            }
        );

    public VfSettings? ReadVfSettings(string pfInterface, int vf) =>
        Watch($"reading the settings of VF {vf} of", pfInterface, (f, p) => f.ReadVfSettings(p, vf));

    public IReadOnlyDictionary<int, VfTraffic> ReadVfTraffic(string pfInterface) =>
        Watch("reading the VF counters of", pfInterface, static (f, p) => f.ReadVfTraffic(p));

    public void WriteVfSettings(string pfInterface, int vf, VfSettings settings) =>
        Watch(
            $"setting VF {vf} of",
            pfInterface,
            (f, p) =>
            {
                f.WriteVfSettings(p, vf, settings);
                return true;
            }
        );

    public byte[] ReadConfigThroughVfio(PciAddress address, int group, int count) =>
        Watch("opening", SysfsPaths.GroupNode(group), (f, _) => f.ReadConfigThroughVfio(address, group, count));

    public IReadOnlyList<PciAddress> HotResetTargets(PciAddress address, int group) =>
        Watch("opening", SysfsPaths.GroupNode(group), (f, _) => f.HotResetTargets(address, group));

    public void HotReset(PciAddress address, IReadOnlyList<int> groups) =>
        Watch(
            "the hot reset of",
            $"{address}",
            (f, _) =>
            {
                f.HotReset(address, groups);
                return true;
            }
        );

    private T Watch<T>(string operation, string path, Func<IHostFileSystem, string, T> call)
    {
        work.Enter(operation, path);
        try
        {
            return call(files, path);
        }
        finally
        {
            work.Leave();
        }
    }
}
