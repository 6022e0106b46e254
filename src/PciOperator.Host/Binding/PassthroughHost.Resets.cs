using System.Buffers.Binary;
using Microsoft.Extensions.Logging;
using PciOperator.Core;

namespace PciOperator.Host;

/// <summary>Clean devices: resets before and after a claim, and what is remembered of a device so that it isn't given to the next owner as it is.</summary>
public sealed partial class PassthroughHost
{
    // Devices that this agent has opened through VFIO.
    private readonly HashSet<string> opened = new(StringComparer.Ordinal);

    /// <summary>An administrator frees a device that a claim with oneTimeUse had.</summary>
    /// <returns>False: nothing to free, or a claim holds the device.</returns>
    /// <exception cref="HostIoException">The mark can't be removed.</exception>
    /// <exception cref="JournalException">See <see cref="RecoverAsync"/>.</exception>
    public bool ClearUsedOnce(PciAddress address)
    {
        lock (gate)
        {
            Load();
            if (reservations.IsHeld(address))
                return false;
        }

        LookOutcome<HostFunction?> look = looked.Run(() => new Inventory(looked).ReadNow([address], HostUse.Read(looked)).SingleOrDefault(), options.LookTimeout, () => Changed?.Invoke());
        if (look.Hangs is { } hangs)
            throw new HostIoException("look", $"{SysfsPaths.Device(address)}", Errnos.ETIMEDOUT, $"{address} can't be looked at: {hangs}.");
        HostFunction? function = look.Seen is { } seen ? twins.Tell(seen) : null;
        bool freed = memory.Free(files, DeviceMemory.Key(function?.Function.StableId, address), address);
        if (freed)
            Changed?.Invoke();
        return freed;
    }

    /// <summary>Functions with what is remembered of them.</summary>
    private List<HostFunction> Remembered(List<HostFunction> functions, string boot, string kernel)
    {
        memory.Load();
        memory.Seen(functions.Select(f => KeyValuePair.Create(Key(f), f.Address)));
        HashSet<PciAddress> held;
        lock (gate)
            held = [.. functions.Select(f => f.Address).Where(reservations.IsHeld)];
        return
        [
            .. functions.Select(f =>
            {
                if (f.Function.IsBridge)
                    return f;
                string key = Key(f);
                if (!held.Contains(f.Address))
                    f = f with { Unbindable = Unbindable(f, kernel, looked) };
                if (memory.Find(key, f.Address) is { ProvenReset: { } proven } record && record.NoReset?.Holds(kernel, f.ResetMethods) != true)
                    f = f with { ProvenReset = proven };
                return memory.Knows(key, f.Address) && !held.Contains(f.Address) && Withholding(f, boot, kernel) is var (by, why) && (f.WithheldBy is null || by != WithheldWords.NoReset)
                    ? f with { WithheldBy = by, Withheld = why }
                    : f;
            }),
        ];
    }

    /// <summary>What is remembered against giving the device away; the worst first.</summary>
    private (string By, string Why)? Withholding(HostFunction f, string boot, string kernel)
    {
        string free = $"kubectl annotate pcinode {options.NodeName} pcioperator.io/free={f.Address}";
        DeviceRecord? record = memory.Find(Key(f), f.Address);
        if (memory.MarkOf(Key(f), f.Address) is (_, var mark))
            return (WithheldWords.UsedOnce, $"{f.Address} was given to the claim {mark.ClaimNamespace}/{mark.ClaimName} (at {mark.At:u}), and its spec says oneTimeUse: it is kept from other claims until an administrator frees it: {free}");
        if (memory.UnreadablePath(Key(f)) is { } path)
            return (WithheldWords.UsedOnce, $"What the agent remembers of {f.Address} can't be read (it is kept at {path} on the host), so it may have been used once: it is kept from claims until an administrator frees it: {free}");
        if (memory.NotCleanOf(Key(f), f.Address) is { } unclean && unclean.BootId == boot)
            return (WithheldWords.NotClean, unclean.Why);
        return record?.NoReset is { } noReset && noReset.Holds(kernel, f.ResetMethods) ? (WithheldWords.NoReset, noReset.Why) : null;
    }

    /// <summary>Why no VFIO driver binds it, as far as can be known without trying (again).</summary>
    private string? Unbindable(HostFunction f, string kernel, IHostFileSystem host)
    {
        if (f.Function.IsBridge || VfioDrivers.IsVfio(f.Driver))
            return null;
        if (VfioDenylist.Refuses(f.Function, kernel, isOff: null) && VfioDenylist.Refuses(f.Function, kernel, HostFacts.DenylistIsOff(host, diagnosis.BootBy(host))))
            return VfioDenylist.Sentence(f.Function);
        return memory.Find(Key(f), f.Address)?.NotBound is { } mark && mark.Holds(kernel, HostFacts.DriverSetting(host, mark.Driver))
            ? $"{mark.Why} It is tried again with another kernel, another driver or other settings of its module, or when an administrator says so: kubectl annotate pcinode {options.NodeName} pcioperator.io/free={f.Address}"
            : null;
    }

    /// <summary>The kernel says what it will say again: it is remembered, so that the device isn't taken off its driver for nothing.</summary>
    private void RememberNotBound(JournalDevice device, RefusalException why, WatchedFileSystem watched)
    {
        if (!VfioDrivers.IsVfio(device.TargetDriver))
            return;
        string kernel = HostFacts.KernelVersion(watched), setting = HostFacts.DriverSetting(watched, device.TargetDriver);
        Remember(watched, device, r => r with { NotBound = new NotBoundMark(why.Message, time.GetUtcNow(), kernel, device.TargetDriver, setting) });
    }

    /// <summary>A device that is withheld is not given to a claim that doesn't have it already, whoever asks.</summary>
    private void RefuseWithheld(AssignmentRequest request, PreBindChecks examination, IHostFileSystem watched)
    {
        string? kernel = null;
        foreach ((DeviceToTake asked, HostFunction found) in request.Devices.Zip(examination.Devices))
        {
            if (asked is { Managed: true, Driver: not BindDriver.PciStub }
                && Unbindable(found, kernel ??= HostFacts.KernelVersion(watched), watched) is { } unbindable)
                throw new RefusalException(HoldingReasons.Withheld, unbindable);
            if (!memory.Knows(Key(found), found.Address) || Withholding(found, bootId!, kernel ??= HostFacts.KernelVersion(watched)) is not var (by, why))
                continue;
            if (by == WithheldWords.UsedOnce && memory.MarkOf(Key(found), found.Address)?.Mark.ClaimUid == request.ClaimUid)
                continue;
            if (by == WithheldWords.NoReset && (asked.Reset != ResetMode.Required || memory.Find(Key(found), found.Address)?.NoReset?.CoversClaimOf(request.Devices.Select(d => d.Address)) != true))
                continue;
            throw new RefusalException(HoldingReasons.Withheld, why);
        }

        // The whole card is in the hands of who gets its PF.
        foreach (HostFunction vf in examination.Vfs.Where(vf => memory.Knows(Key(vf), vf.Address)))
        {
            if (Withholding(vf, bootId!, kernel ??= HostFacts.KernelVersion(watched)) is (WithheldWords.UsedOnce, var used))
                throw new RefusalException(HoldingReasons.Withheld, used);
        }
    }

    /// <summary>Clean for the claim: every device reset and seen to answer, or noted why not.</summary>
    /// <returns>The entry with what could not be reset, where that is allowed.</returns>
    /// <exception cref="RefusalException">ResetFailed: a device with reset: required could not be reset, or one did not come back.</exception>
    private JournalEntry CleanBefore(JournalEntry entry, PreBindChecks examination, WatchedFileSystem watched, BlockingWork work)
    {
        JournalDevice[] wanted = [.. entry.Devices.Where(d => d.Reset != ResetMode.Skip)];
        if (wanted.Length == 0)
            return entry;
        IReadOnlyList<ResetOutcome> outcomes = Run(watched, work).Reset(entry, wanted, Proven);
        string kernel = HostFacts.KernelVersion(watched);
        Dictionary<PciAddress, string> notes = [];
        var failures = new List<string>();
        foreach (ResetOutcome outcome in outcomes)
        {
            JournalDevice device = outcome.Device;
            bool fails = outcome.Method is null && (device.Reset == ResetMode.Required || !outcome.Answers);
            if (fails)
                failures.Add(outcome.Sentence + (device.Reset == ResetMode.Required ? " Its spec says reset: required." : ""));
            else if (outcome.Method is null)
                notes[device.Address] = outcome.Sentence;
            HostFunction seen = examination.Devices.First(f => f.Address == device.Address);
            Remember(watched, device, r => outcome.Method is { } method
                ? r with { ProvenReset = method, NoReset = null, NotClean = null }
                : r with
                {
                    NotClean = outcome.Answers ? r.NotClean : new NotCleanMark(bootId!, outcome.Sentence + " The host's next boot resets it.", time.GetUtcNow()),
                    NoReset = device.Reset == ResetMode.Required || r.ProvenReset is null
                        ? new NoResetMark(outcome.Sentence, time.GetUtcNow(), kernel, string.Join(' ', seen.ResetMethods), string.Join(' ', entry.Devices.Select(d => d.Address)))
                        : r.NoReset,
                });
        }

        if (failures.Count > 0)
            throw new RefusalException(HoldingReasons.ResetFailed, string.Join(' ', failures));
        return entry with { Devices = [.. entry.Devices.Select(d => d with { NotReset = notes.GetValueOrDefault(d.Address) })] };
    }

    /// <summary>
    /// At a device's first claim of a boot it is opened through VFIO, as its VMM will do: a device can be bound and yet be of no
    /// use to anybody, when the kernel has no resources for its BARs, for example. Opening resets, so a device that must not be
    /// reset is not opened.
    /// </summary>
    /// <exception cref="RefusalException">OpenFailed or InUse.</exception>
    private void ProveUsable(JournalEntry entry, WatchedFileSystem watched, BlockingWork work)
    {
        foreach (JournalDevice device in entry.Devices.Where(d => d.Reset != ResetMode.Skip && d.IommuGroup is not null && VfioDrivers.IsVfio(d.TargetDriver)))
        {
            lock (gate)
            {
                if (opened.Contains(Key(device)))
                    continue;
            }

            // By its group: a kernel that has none leaves it to the VMM to find out.
            if (!watched.Exists(SysfsPaths.GroupNode(device.IommuGroup!.Value)))
                continue;
            work.Purpose = $"opening {device.Address} through VFIO";
            try
            {
                byte[] config = watched.ReadConfigThroughVfio(device.Address, device.IommuGroup!.Value, 4);
                string found = config.Length < 4 ? "nothing" : $"{BinaryPrimitives.ReadUInt16LittleEndian(config):x4}:{BinaryPrimitives.ReadUInt16LittleEndian(config.AsSpan(2)):x4}";
                if (found != $"{device.VendorId}:{device.ProductId}")
                    throw new RefusalException(HoldingReasons.OpenFailed, $"{device.Address} is bound to {device.TargetDriver}, and through VFIO its configuration space says {found} instead of {device.VendorId}:{device.ProductId}.");
            }
            catch (HostIoException e) when (e.Errno == Errnos.EBUSY)
            {
                throw new RefusalException(HoldingReasons.InUse, $"{device.Address} can't be opened through VFIO: a process has its IOMMU group open.");
            }
            catch (HostIoException e)
            {
                throw new RefusalException(HoldingReasons.OpenFailed, $"{device.Address} is bound to {device.TargetDriver}, but no VM could open it: {e.Message}{Advice(e.Errno)}");
            }
            finally
            {
                work.Purpose = null;
            }

            lock (gate)
                opened.Add(Key(device));
        }

        static string Advice(int errno) => errno == Errnos.EINVAL
            ? " The kernel could not enable it, as a rule because its BARs have no address space (dmesg: \"BAR … not claimed\"): boot with pci=realloc, or turn on Above 4G Decoding in the firmware."
            : "";
    }

    /// <summary>Clean for the next owner: every device reset, or marked so that there is none until the next boot.</summary>
    private void CleanAfter(JournalEntry entry, DeviceBinder binder, WatchedFileSystem watched, BlockingWork work)
    {
        JournalDevice[] wanted =
        [
            .. entry.Devices.Where(d => d.Reset != ResetMode.Skip && binder.IsThere(d) && Inventory.DriverOf(watched, d.Address) == d.TargetDriver),
        ];
        foreach (ResetOutcome outcome in Run(watched, work).Reset(entry, wanted, Proven))
        {
            JournalDevice device = outcome.Device;
            if (outcome.Method is { } method)
            {
                Remember(watched, device, r => r with { ProvenReset = method, NoReset = null, NotClean = null });
                continue;
            }

            if (outcome.Answers && device.Reset != ResetMode.Required && Proven(device) is null)
                continue;
            string why = $"After the claim {entry.ClaimNamespace}/{entry.ClaimName}: {outcome.Sentence} It is not clean, and kept from claims until the host's next boot resets it.";
            logger.LogError("{Message}", why);
            memory.Update(watched, Key(device), device.Address, r => r with { NotClean = new NotCleanMark(bootId!, why, time.GetUtcNow()) });
        }
    }

    /// <summary>Before a guest can touch a device of one-time use its mark is on disk.</summary>
    private void MarkUsedOnce(JournalEntry entry, WatchedFileSystem watched)
    {
        foreach (JournalDevice device in entry.Devices.Where(d => d.OneTimeUse))
        {
            memory.Update(watched, Key(device), device.Address, r => r.UsedOnce?.ClaimUid == entry.ClaimUid
                ? r
                : r with { UsedOnce = new UsedOnceMark(entry.ClaimUid, entry.ClaimNamespace, entry.ClaimName, time.GetUtcNow()) });
        }
    }

    /// <summary>What makes nothing unsafe when it is forgotten: a failure to write it is only logged.</summary>
    private void Remember(WatchedFileSystem watched, JournalDevice device, Func<DeviceRecord, DeviceRecord> change)
    {
        try
        {
            memory.Update(watched, Key(device), device.Address, change);
        }
        catch (HostIoException e)
        {
            logger.LogWarning("What was learnt about {Address} is forgotten when the agent restarts: {Message}", device.Address, e.Message);
        }
    }

    private ResetRun Run(WatchedFileSystem watched, BlockingWork work) => new(watched, work, time, options.ResetPatience);

    private string? Proven(JournalDevice device) => memory.Find(Key(device), device.Address)?.ProvenReset;

    private static string Key(HostFunction f) => DeviceMemory.Key(f.Function.StableId, f.Address);

    private static string Key(JournalDevice d) => DeviceMemory.Key(d.StableId, d.Address);
}
