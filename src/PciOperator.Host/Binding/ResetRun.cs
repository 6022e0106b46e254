using System.Buffers.Binary;
using PciOperator.Core;

namespace PciOperator.Host;

/// <summary>How the reset of one device ended.</summary>
/// <param name="Device">The device.</param>
/// <param name="Method">The method that worked; null: none did.</param>
/// <param name="Tried">What each attempt answered; empty when the first worked.</param>
/// <param name="Answers">Its configuration space answers as it should.</param>
internal sealed record ResetOutcome(JournalDevice Device, string? Method, IReadOnlyList<string> Tried, bool Answers)
{
    /// <summary>Why it was not reset, as a sentence.</summary>
    public string Sentence =>
        $"{Device.Address} could not be reset{(Answers ? "" : " and does not answer any more")}. Tried: {string.Join("; ", Tried)}.";
}

/// <summary>One try to reset, for who counts them.</summary>
/// <param name="Device">What was reset; of a hot reset the device that needed it.</param>
/// <param name="Method">The kernel's name of the method, or <c>vfio hot reset</c>.</param>
/// <param name="Duration">How long it took, with the wait for the device's answer.</param>
/// <param name="Worked">Whether the kernel did it and the device answered.</param>
public sealed record ResetTry(PciAddress Device, string Method, TimeSpan Duration, bool Worked);

/// <summary>
/// Resets the devices of one claim, each by the first method that works and is seen to have worked: the function's own methods (sysfs
/// reset, which never leaves the function: the kernel refuses a bus that holds others), one at a time, the one that has worked before
/// first; else VFIO's hot reset of slot or bus, when all that it hits is in the claim and may be reset.
/// </summary>
/// <param name="files">The host.</param>
/// <param name="work">Watches the calls: a reset blocks, 0.1 to 1 s as a rule, up to a minute when the device doesn't come back.</param>
/// <param name="time">For waiting.</param>
/// <param name="patience">How long a device may take to answer after a reset.</param>
/// <param name="tried">Told of each try.</param>
internal sealed class ResetRun(IHostFileSystem files, BlockingWork work, TimeProvider time, TimeSpan patience, Action<ResetTry> tried)
{
    /// <summary>The name of VFIO's hot reset, beside the kernel's names of methods.</summary>
    public const string HotReset = "vfio hot reset";

    // A kernel before 5.15 has no reset_method: it takes the methods in its own order.
    private const string KernelsChoice = "the kernel's choice";
    private const int HeaderBytes = 64;

    // As the kernel does (PCIE_RESET_READY_POLL_MS) for a device that says "configuration request retry status".
    private static readonly TimeSpan RetryPatience = TimeSpan.FromSeconds(60);

    /// <summary>Resets these devices of an entry; devices are bound to their target drivers and nobody has them open.</summary>
    /// <param name="entry">The claim: a hot reset stays within it.</param>
    /// <param name="devices">Those to reset.</param>
    /// <param name="proven">The method that has worked on a device before; null: none.</param>
    public IReadOnlyList<ResetOutcome> Reset(
        JournalEntry entry,
        IReadOnlyCollection<JournalDevice> devices,
        Func<JournalDevice, string?> proven
    )
    {
        List<Attempt> attempts = [.. devices.Select(d => new Attempt(d, proven(d)))];
        foreach (Attempt attempt in attempts.Where(a => a.Proven != HotReset))
            ResetFunction(attempt);
        foreach (Attempt attempt in attempts)
        {
            if (attempt.Method is null && !attempt.TriedHotReset)
                ResetSlotOrBus(attempt, attempts, entry);
        }

        foreach (Attempt attempt in attempts.Where(a => a.Method is null && a.Proven == HotReset))
            ResetFunction(attempt);
        return
        [
            .. attempts.Select(a => new ResetOutcome(a.Device, a.Method, a.Tried, a.Method is not null || Fault(a.Device, out _) is null)),
        ];
    }

    /// <summary>Puts reset_method back as it was found.</summary>
    /// <param name="devices">The claim's.</param>
    /// <param name="isThere">Whether the very device is at its address.</param>
    /// <exception cref="RefusalException">RestoreFailed.</exception>
    public void RestoreMethods(IEnumerable<JournalDevice> devices, Func<JournalDevice, bool> isThere)
    {
        if (devices.Select(d => RestoreMethods(d, isThere)).FirstOrDefault(wrong => wrong is not null) is { } failure)
            throw new RefusalException(HoldingReasons.RestoreFailed, failure);
    }

    private string? RestoreMethods(JournalDevice device, Func<JournalDevice, bool> isThere)
    {
        if (device.OriginalResetMethods is not { } original)
            return null;
        string path = $"{SysfsPaths.Device(device.Address)}/reset_method";
        try
        {
            string? now = files.ReadText(path);
            if (now is null || now == original || !isThere(device))
                return null;
            string possible = original;
            try
            {
                files.Write(path, original.Length > 0 ? original : "\n");
            }
            catch (HostIoException e) when (e.Errno == Errnos.EINVAL && original.Contains(' ', StringComparison.Ordinal))
            {
                // The kernel listed the methods when it found the function. What has become impossible since (a reset of a bus onto
                // which other functions came) it doesn't take back.
                possible = string.Join(' ', original.Split(' ').Where(method => IsPossible(path, method)));
                files.Write(path, possible.Length > 0 ? possible : "default");
            }

            now = files.ReadText(path);
            return now is null || now == possible || possible.Length == 0
                ? null
                : $"reset_method of {device.Address} is '{now}' instead of '{possible}'.";
        }
        catch (HostIoException e)
        {
            return $"reset_method of {device.Address} can't be put back to '{original}': {e.Message}";
        }
    }

    private bool IsPossible(string path, string method)
    {
        try
        {
            files.Write(path, method);
            return true;
        }
        catch (HostIoException e) when (e.Errno == Errnos.EINVAL)
        {
            return false;
        }
    }

    private void ResetFunction(Attempt attempt)
    {
        JournalDevice device = attempt.Device;
        string folder = SysfsPaths.Device(device.Address);
        try
        {
            if (!files.Exists($"{folder}/reset"))
            {
                attempt.Tried.Add("the kernel knows no reset of this function alone (it has no reset file)");
                return;
            }

            if (device.OriginalResetMethods is null)
            {
                Do(attempt, KernelsChoice, () => files.Write($"{folder}/reset", "1"));
                return;
            }

            string[] methods = device.OriginalResetMethods.Split(' ', StringSplitOptions.RemoveEmptyEntries);
            if (methods.Length == 0)
                attempt.Tried.Add("somebody emptied its reset_method (echo default > reset_method brings the kernel's own back)");
            foreach (string method in methods.OrderBy(m => m != attempt.Proven))
            {
                if (Do(attempt, method, () => ResetBy(folder, method, methods[0] == attempt.Proven)))
                    break;
            }
        }
        catch (HostIoException e)
        {
            attempt.Tried.Add(e.Message.TrimEnd('.'));
        }
        finally
        {
            // Said again, and then insisted on, when the device is given back.
            _ = RestoreMethods(device, _ => true);
        }
    }

    /// <summary>
    /// By this method and no other. The kernel takes the first of its list that is possible: one that has worked before and is the first
    /// needs no list of its own.
    /// </summary>
    private void ResetBy(string folder, string method, bool isFirst)
    {
        string? now = files.ReadText($"{folder}/reset_method");
        if (now != method && !(isFirst && now?.Split(' ')[0] == method))
            files.Write($"{folder}/reset_method", method);
        files.Write($"{folder}/reset", "1");
    }

    private void ResetSlotOrBus(Attempt attempt, List<Attempt> attempts, JournalEntry entry)
    {
        attempt.TriedHotReset = true;
        JournalDevice device = attempt.Device;
        if (!VfioDrivers.IsVfio(device.TargetDriver))
        {
            attempt.Tried.Add($"{HotReset}: it is on {device.TargetDriver}, not on vfio");
            return;
        }

        try
        {
            if (device.IommuGroup is not { } group || !files.Exists(SysfsPaths.GroupNode(group)))
            {
                attempt.Tried.Add($"{HotReset}: its group has no node in /dev/vfio");
                return;
            }

            work.Purpose = $"looking at what a hot reset of {device.Address} hits";
            IReadOnlyList<PciAddress> hits = files.HotResetTargets(device.Address, group);
            if (Obstacle(hits, attempts, entry) is { } obstacle)
            {
                attempt.Tried.Add($"{HotReset}: {obstacle}");
                return;
            }

            long began = time.GetTimestamp();
            List<JournalDevice> hit = [.. entry.Devices.Where(d => hits.Contains(d.Address))];
            bool done = Perform(
                attempt,
                HotReset,
                () => files.HotReset(device.Address, [.. hit.Select(d => d.IommuGroup!.Value).Prepend(group).Distinct()])
            );
            foreach (Attempt reached in attempts.Where(a => hits.Contains(a.Device.Address)))
            {
                // One that was reset alone before must have come through it too.
                reached.TriedHotReset = true;
                if (done)
                    Settle(reached, reached.Method ?? HotReset);
                else if (reached != attempt && reached.Method is null)
                    reached.Tried.Add(attempt.Tried[^1]);
            }

            tried(new ResetTry(device.Address, HotReset, time.GetElapsedTime(began), attempt.Method is not null));
        }
        catch (HostIoException e)
        {
            attempt.Tried.Add($"{HotReset}: {e.Message.TrimEnd('.')}");
        }
        finally
        {
            work.Purpose = null;
        }
    }

    /// <summary>What keeps a hot reset from being done; null when nothing does.</summary>
    private static string? Obstacle(IReadOnlyList<PciAddress> hits, List<Attempt> attempts, JournalEntry entry)
    {
        foreach (PciAddress hit in hits)
        {
            if (entry.Devices.FirstOrDefault(d => d.Address == hit) is not { } other)
                return $"it would also reset {hit}, which the claim doesn't hold";
            if (other.Reset == ResetMode.Skip)
                return $"it would also reset {hit}, whose spec says reset: skip";
            if (!VfioDrivers.IsVfio(other.TargetDriver) || other.IommuGroup is null || attempts.All(a => a.Device != other))
                return $"it would also reset {hit}, which is not on vfio";
        }

        return null;
    }

    private bool Do(Attempt attempt, string method, Action reset)
    {
        long began = time.GetTimestamp();
        bool worked = Perform(attempt, method, reset) && Settle(attempt, method);
        tried(new ResetTry(attempt.Device.Address, method, time.GetElapsedTime(began), worked));
        return worked;
    }

    /// <summary>Whether the kernel says that it has reset the device.</summary>
    private bool Perform(Attempt attempt, string method, Action reset)
    {
        work.Purpose = $"resetting {attempt.Device.Address} ({method})";
        try
        {
            reset();
            return true;
        }
        catch (HostIoException e)
        {
            attempt.Tried.Add(
                $"{method}: {(e.Errno == 0 || method == HotReset ? e.Message.TrimEnd('.') : $"{Errnos.Name(e.Errno)} ({Errnos.Text(e.Errno)})")}"
            );
            return false;
        }
        finally
        {
            work.Purpose = null;
        }
    }

    /// <summary>Whether the device answers after it: then the method counts.</summary>
    private bool Settle(Attempt attempt, string method)
    {
        string? wrong = WaitForAnswer(attempt.Device);
        attempt.Method = wrong is null ? method : null;
        if (wrong is not null)
            attempt.Tried.Add($"{method}: {wrong}");
        return wrong is null;
    }

    /// <summary>Until the device answers as it should, or has had its time.</summary>
    /// <returns>What is wrong; null when it answers.</returns>
    private string? WaitForAnswer(JournalDevice device)
    {
        long since = time.GetTimestamp();
        for (double delay = 1; ; delay = Math.Min(delay * 2, 100))
        {
            if (Fault(device, out bool retry) is not { } wrong)
                return null;
            TimeSpan left = (retry ? RetryPatience : patience) - time.GetElapsedTime(since);
            if (left <= TimeSpan.Zero)
                return wrong;
            Task.Delay(TimeSpan.FromMilliseconds(Math.Clamp(left.TotalMilliseconds, 1, delay)), time).GetAwaiter().GetResult();
        }
    }

    /// <summary>
    /// What is wrong with a device's configuration space (read from the hardware: PCI header); null when nothing is. A VF's
    /// ids read ffff by specification (SR-IOV 3.4.1): it is judged by command and status.
    /// </summary>
    private string? Fault(JournalDevice device, out bool retry)
    {
        retry = false;
        byte[]? config;
        try
        {
            config = files.ReadBytes($"{SysfsPaths.Device(device.Address)}/config", HeaderBytes);
        }
        catch (HostIoException e)
        {
            return e.Message.TrimEnd('.');
        }

        if (config is null)
            return "the device is gone";
        if (config.Length < HeaderBytes)
            return $"only {config.Length} bytes of its configuration space can be read";
        (ushort vendor, ushort product) = (
            BinaryPrimitives.ReadUInt16LittleEndian(config),
            BinaryPrimitives.ReadUInt16LittleEndian(config.AsSpan(2))
        );
        retry = vendor == 1 && product == 0xffff;
        if (retry)
            return "it asks to be tried again later (configuration request retry status)";
        if (BinaryPrimitives.ReadUInt32LittleEndian(config.AsSpan(4)) == uint.MaxValue || config[14] == 0xff)
            return "its configuration space reads ffff";
        string found = $"{vendor:x4}:{product:x4}";
        return device.ParentAddress is not null || found == $"{device.VendorId}:{device.ProductId}"
            ? null
            : $"its configuration space says {found} instead of {device.VendorId}:{device.ProductId}";
    }

    private sealed class Attempt(JournalDevice device, string? proven)
    {
        public JournalDevice Device { get; } = device;

        public string? Proven { get; } = proven;

        public List<string> Tried { get; } = [];

        public string? Method { get; set; }

        public bool TriedHotReset { get; set; }
    }
}
