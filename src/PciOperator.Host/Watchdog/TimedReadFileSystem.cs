using System.Collections.Concurrent;
using PciOperator.Core;

namespace PciOperator.Host;

/// <summary>
/// The host as a look at everything sees it. Reading waits too: driver_override and sriov_numvfs for the device's lock, which
/// a blocked unbind or change of VFs of any process holds (drivers/pci/pci-sysfs.c, iov.c). A device whose read doesn't return
/// is silent: no later look waits for it as well, until that read has returned.
/// </summary>
internal sealed class TimedReadFileSystem(IHostFileSystem files, TimeProvider time) : IHostFileSystem
{
    [ThreadStatic]
    private static ReadWatchdog? Current;

    private readonly ConcurrentDictionary<PciAddress, string> _silent = new();

    /// <summary>Devices that don't answer now, and which call of theirs doesn't return.</summary>
    public IReadOnlyDictionary<PciAddress, string> Silent => _silent;

    /// <summary>Runs a look on a thread of its own; what it answers, or which of its calls doesn't return within the limit.</summary>
    /// <param name="look">What is read, through this.</param>
    /// <param name="limit">How long one call may take.</param>
    /// <param name="answered">Called when a call that was given up has returned after all.</param>
    /// <exception cref="HostIoException">A call that concerns no single device doesn't return.</exception>
    public LookOutcome<T> Run<T>(Func<T> look, TimeSpan limit, Action answered)
    {
        var mine = new ReadWatchdog(time);
        var result = new TaskCompletionSource<T>(TaskCreationOptions.RunContinuationsAsynchronously);
        void Look()
        {
            Current = mine;
            try
            {
                result.TrySetResult(look());
            }
#pragma warning disable CA1031 // handed to whoever waits for the result
            catch (Exception e)
#pragma warning restore CA1031
            {
                result.TrySetException(e);
            }

            Current = null;
            if (!mine.IsGivenUp)
                return;
            if (mine.GivenUpFor is { } device)
                _silent.TryRemove(device, out _);
            answered();
        }

        // The clock runs before the look does.
        Task answer = result.Task.WaitAsync(limit, time);
        WorkThread.Run("look", Look);
        while (true)
        {
            try
            {
                answer.Wait();
            }
            catch (AggregateException e) when (e.InnerException is TimeoutException && !result.Task.IsCompleted)
            {
                answer = result.Task.WaitAsync(limit, time);
                if (mine.GiveUp(limit, _silent) is not { } call)
                    continue;
                string sentence = $"the kernel has not finished {call} for {limit.TotalSeconds:0} s";
                return mine.GivenUpFor is null
                    ? throw new HostIoException("look", call, Errnos.ETIMEDOUT, $"The host can't be looked at: {sentence}.")
                    : new LookOutcome<T>(default, sentence);
            }
            catch (AggregateException)
            {
                // Thrown as it is below.
            }

            return new LookOutcome<T>(result.Task.GetAwaiter().GetResult(), null);
        }
    }

    public bool Exists(string path) => Watch("looking for", path, static (f, p) => f.Exists(p));

    public string? ReadText(string path) => Watch("reading", path, static (f, p) => f.ReadText(p));

    public byte[]? ReadBytes(string path, int max) => Watch("reading", path, (f, p) => f.ReadBytes(p, max));

    public string? ReadLink(string path) => Watch("reading", path, static (f, p) => f.ReadLink(p));

    public IReadOnlyList<string> List(string path) => Watch("listing", path, static (f, p) => f.List(p));

    public IReadOnlyList<string> ListFolders(string path) => Watch("listing", path, static (f, p) => f.ListFolders(p));

    public DeviceNumber? DeviceAt(string path) => Watch("looking at", path, static (f, p) => f.DeviceAt(p));

    public DeviceNumber? LoopedDevice(string node) => Watch("asking", node, static (f, p) => f.LoopedDevice(p));

    public HostNetwork ReadNetwork() => Watch("reading", "the host's network", static (f, _) => f.ReadNetwork());

    public VfSettings? ReadVfSettings(string pfInterface, int vf) =>
        Watch("reading the VF settings of", pfInterface, (f, p) => f.ReadVfSettings(p, vf));

    public IReadOnlyDictionary<int, VfTraffic> ReadVfTraffic(string pfInterface) =>
        Watch("reading the VF counters of", pfInterface, static (f, p) => f.ReadVfTraffic(p));

    public IReadOnlyList<PciAddress> HotResetTargets(PciAddress address, int group) => throw NotByLooking();

    public IDisposable? ClaimBlockDevice(string node) => throw NotByLooking();

    public byte[] ReadConfigThroughVfio(PciAddress address, int group, int count) => throw NotByLooking();

    public void Write(string path, string value) => throw NotByLooking();

    public void WriteDurably(string path, ReadOnlySpan<byte> content) => throw NotByLooking();

    public void WriteForOthers(string path, ReadOnlySpan<byte> content) => throw NotByLooking();

    public void DeleteEmptyFolder(string path) => throw NotByLooking();

    public void Delete(string path) => throw NotByLooking();

    public string? TakeFolder(string folder) => throw NotByLooking();

    public void LoadModule(string name) => throw NotByLooking();

    public void WriteVfSettings(string pfInterface, int vf, VfSettings settings) => throw NotByLooking();

    public void HotReset(PciAddress address, IReadOnlyList<int> groups) => throw NotByLooking();

    private static NotSupportedException NotByLooking() => new("A look at the host changes nothing.");

    private T Watch<T>(string operation, string path, Func<IHostFileSystem, string, T> call)
    {
        if (!_silent.IsEmpty && ReadWatchdog.DeviceOf(path) is { } device && _silent.TryGetValue(device, out string? since))
        {
            throw new HostIoException(
                operation,
                path,
                Errnos.ETIMEDOUT,
                $"the kernel has not finished {since}; that can't be cancelled. A process may still use the device: stop it."
            );
        }

        if (Current is not { } look)
            return call(files, path);
        look.Enter(operation, path);
        try
        {
            return call(files, path);
        }
        finally
        {
            look.Leave();
        }
    }
}

/// <summary>What a look saw, or which call doesn't return.</summary>
internal readonly record struct LookOutcome<T>(T? Seen, string? Hangs);

/// <summary>How far one look is.</summary>
internal sealed class ReadWatchdog(TimeProvider time)
{
    private readonly Lock _gate = new();
    private (string Operation, string Path)? _doing;
    private long _since;

    /// <summary>Nobody waits for it any more: it ends at its next step.</summary>
    public bool IsGivenUp { get; private set; }

    /// <summary>The device that it was given up for.</summary>
    public PciAddress? GivenUpFor { get; private set; }

    public void Enter(string operation, string path)
    {
        lock (_gate)
            (_doing, _since) = ((operation, path), time.GetTimestamp());
    }

    public void Leave()
    {
        lock (_gate)
        {
            _doing = null;
            if (IsGivenUp)
                throw new OperationCanceledException("Another look was begun meanwhile.");
        }
    }

    /// <summary>Gives up if one call lasts too long; that call in words, else null.</summary>
    public string? GiveUp(TimeSpan limit, ConcurrentDictionary<PciAddress, string> silent)
    {
        lock (_gate)
        {
            if (_doing is not var (operation, path) || time.GetElapsedTime(_since) < limit)
                return null;
            IsGivenUp = true;
            GivenUpFor = DeviceOf(path);
            if (GivenUpFor is { } device)
                silent[device] = $"{operation} {path}";
            return $"{operation} {path}";
        }
    }

    /// <summary>The function that a path is about: /sys/bus/pci/devices/ADDRESS/….</summary>
    public static PciAddress? DeviceOf(string path)
    {
        const string devices = SysfsPaths.Devices + "/";
        if (!path.StartsWith(devices, StringComparison.Ordinal))
            return null;
        int slash = path.IndexOf('/', devices.Length);
        return PciAddress.TryParse(path.AsSpan()[devices.Length..(slash < 0 ? path.Length : slash)], null, out PciAddress address)
            ? address
            : null;
    }
}
