using Microsoft.Extensions.Logging;
using PciOperator.Core;

namespace PciOperator.Host;

/// <summary>The number of VFs of a PF.</summary>
public sealed partial class PassthroughHost
{
    private static readonly TimeSpan BetweenLooks = TimeSpan.FromMilliseconds(50);

    /// <summary>
    /// Gives a PF a number of VFs, through 0 when it has another number (the kernel's rule), and waits until they are there.
    /// Refused while a claim holds the PF or one of its VFs, or while the host uses a VF that would go. Begun again after any
    /// interruption it goes on from what is there.
    /// </summary>
    /// <param name="pf">The PF.</param>
    /// <param name="numVfs">0 to sriov_totalvfs.</param>
    /// <param name="autoprobe">sriov_drivers_autoprobe: whether VFs get their host driver; null leaves it alone.</param>
    /// <param name="ct">Stops waiting; what the kernel has begun goes on.</param>
    /// <exception cref="JournalException">See <see cref="RecoverAsync"/>.</exception>
    public async Task<SriovOutcome> SetVfsAsync(PciAddress pf, int numVfs, bool? autoprobe = null, CancellationToken ct = default)
    {
        string? stalledAt = null;
        SriovOutcome NotYet() => Refused(pf, HoldingReasons.WriteBlocked, $"{pf} doesn't have {numVfs} VFs yet: the kernel has not finished {stalledAt} for {options.WriteTimeout.TotalSeconds:0} s; it can't be cancelled. A process may still use a VF: stop it. The work goes on when the kernel does.");
        lock (gate)
        {
            Load();
            if (Running(pf) is { } busy)
                return busy;
        }

        // Reading the number waits for the device's lock, which somebody else's write may hold.
        var look = new BlockingWork(time, options.WriteTimeout) { Stalled = doing => stalledAt = doing };
        Task<(bool IsSo, bool SameNumber, bool HasVfs)> looking = Run(look, $"sriov {pf}", () =>
        {
            var watched = new WatchedFileSystem(files, look, looks);
            return IsSo(pf, numVfs, autoprobe, watched) ? (true, true, true) : (false, HasNumber(pf, numVfs, watched), !HasNumber(pf, 0, watched));
        });
        await look.EndedOrStalled.WaitAsync(ct);
        if (!looking.IsCompleted && !look.Ended.IsCompleted)
            return NotYet();
        (bool isSo, bool sameNumber, bool hasVfs) = await looking;
        if (isSo)
            return new SriovOutcome { Address = pf, Applied = true, NumVfs = numVfs };
        BlockingWork work;
        lock (gate)
        {
            if (Running(pf) is { } busy)
                return busy;
            IReadOnlyList<(string ClaimUid, string Claim)> holders = reservations.HoldersOf(pf, hasVfs);
            if (holders.Count > 0 && !sameNumber)
            {
                return Refused(pf, HoldingReasons.OwnedByOther, $"{pf} can't have {numVfs} VFs now: it or its VFs are held by {string.Join(", ", holders.Select(h => h.Claim))}. It is done when they are released.") with
                {
                    BlockedBy = [.. holders.Select(h => h.ClaimUid)],
                };
            }

            work = new BlockingWork(time, options.WriteTimeout) { Stalled = doing => stalledAt = doing };
            reservations.Resizing[pf] = work;
        }

        Task<SriovOutcome> result = Run(work, $"sriov {pf}", () =>
        {
            try
            {
                return Resize(pf, numVfs, autoprobe, sameNumber, new WatchedFileSystem(files, work, looks), work);
            }
            finally
            {
                lock (gate)
                    reservations.Resizing.Remove(pf);
                Changed?.Invoke();
            }
        });
        await work.EndedOrStalled.WaitAsync(ct);
        return result.IsCompleted || work.Ended.IsCompleted ? await result : NotYet();
    }

    private SriovOutcome? Running(PciAddress pf) => reservations.Resizing.TryGetValue(pf, out BlockingWork? running)
        ? Refused(pf, HoldingReasons.Busy, $"The number of VFs of {pf} is being changed already{(running.IsStalled ? ", and the kernel has not finished" : "")}.")
        : null;

    /// <summary>
    /// Functions that the kernel may be keeping locked for us: those that are being worked on, and those on which an agent
    /// before us was working in this boot, since a thread that unbinds a device in use outlives its process.
    /// </summary>
    private HashSet<PciAddress> Locked()
    {
        lock (gate)
        {
            return
            [
                .. reservations.Resizing.Keys,
                .. inherited.SelectMany(uid => entries.GetValueOrDefault(uid)?.Devices ?? []).Select(d => d.Address),
                .. works.Where(w => w.Value.Work.Purpose is not null)
                    .SelectMany(w => entries.GetValueOrDefault(w.Key)?.Devices ?? [], (_, device) => device.Address),
            ];
        }
    }

    /// <summary>Then nothing goes that somebody could hold: only autoprobe is set, or VFs are waited for.</summary>
    private static bool HasNumber(PciAddress pf, int numVfs, IHostFileSystem files) =>
        Inventory.Number(Attempt(() => files.ReadText($"{SysfsPaths.Device(pf)}/sriov_numvfs"))) == numVfs;

    private static bool IsSo(PciAddress pf, int numVfs, bool? autoprobe, IHostFileSystem files)
    {
        try
        {
            string folder = SysfsPaths.Device(pf);
            return Inventory.Number(files.ReadText($"{folder}/sriov_numvfs")) == numVfs
                && (autoprobe is null || files.ReadText($"{folder}/sriov_drivers_autoprobe") == (autoprobe.Value ? "1" : "0"))
                && Present(pf, files) == numVfs;
        }
        catch (HostIoException)
        {
            // Said by the attempt that follows.
            return false;
        }
    }

    /// <summary>Starts work that answers.</summary>
    private static Task<T> Run<T>(BlockingWork work, string name, Func<T> body)
    {
        var result = new TaskCompletionSource<T>(TaskCreationOptions.RunContinuationsAsynchronously);
        work.Start(name, () =>
        {
            try
            {
                result.TrySetResult(body());
            }
#pragma warning disable CA1031 // handed to whoever waits for the result
            catch (Exception e)
#pragma warning restore CA1031
            {
                result.TrySetException(e);
            }
        });
        return result.Task;
    }

    /// <summary>VFs that can be used: linked from their PF, and there.</summary>
    private static int Present(PciAddress pf, IHostFileSystem files) =>
        Inventory.NumberedVfsOf(files, pf).Values.Count(vf => Inventory.IdsOf(files, vf) is not null);

    private static SriovOutcome Refused(PciAddress pf, string reason, string message) =>
        new() { Address = pf, Applied = false, Reason = reason, Message = message };

    private SriovOutcome Resize(PciAddress pf, int numVfs, bool? autoprobe, bool sameNumber, WatchedFileSystem watched, BlockingWork work)
    {
        string folder = SysfsPaths.Device(pf);
        int? Now() => Inventory.Number(watched.ReadText($"{folder}/sriov_numvfs"));
        bool changed = false;
        string? probeBefore = null;
        try
        {
            int? total = Inventory.Number(watched.ReadText($"{folder}/sriov_totalvfs"));
            if (total is null)
            {
                return watched.Exists(folder)
                    ? Refused(pf, HoldingReasons.SriovFailed, $"{pf} has no SR-IOV: it is not a PF, or SR-IOV is off in the BIOS.")
                    : Refused(pf, HoldingReasons.DeviceGone, $"There is no device at {pf}.");
            }

            int now = Now() ?? 0;
            if (sameNumber && now != numVfs)
                return Refused(pf, HoldingReasons.Busy, $"Somebody else changes the number of VFs of {pf}, from {numVfs} to {now}.") with { NumVfs = now };
            if (numVfs < 0 || numVfs > total)
                return Refused(pf, HoldingReasons.SriovFailed, $"{pf} can have 0 to {total} VFs; {numVfs} is not possible.") with { NumVfs = now };
            if (now != numVfs && Inventory.DriverOf(watched, pf) is var driver && (driver is null || VfioDrivers.IsVfio(driver)))
            {
                return Refused(pf, HoldingReasons.SriovFailed,
                    $"{pf} is on {driver ?? "no driver"}, and only its own driver can change the number of its VFs: bind it to that first.") with { NumVfs = now };
            }

            List<HostFunction> going = [];
            if (now != numVfs && now > 0 && UseOfVfs(pf, watched, out going) is { } refusal)
                return refusal with { NumVfs = now };
            string? probe = autoprobe switch { true => "1", false => "0", null => null };
            if (probe is not null && watched.ReadText($"{folder}/sriov_drivers_autoprobe") is { } current && current != probe)
            {
                changed = true;
                probeBefore = current;
                watched.Write($"{folder}/sriov_drivers_autoprobe", probe);
            }

            if (now != numVfs && now > 0)
            {
                Write($"removing the VFs of {pf}", 0);
                if (Now() is var left and not 0)
                    return Refused(pf, HoldingReasons.SriovFailed, $"The kernel took 0 as the number of VFs of {pf}, and shows {left}; the kernel log (dmesg) says why.") with { NumVfs = left, Changed = true };
                Forgive(going, watched);
            }

            if (now != numVfs && numVfs > 0)
                Write($"making {numVfs} VFs of {pf}", numVfs);
            return Await(pf, numVfs, watched, work, Now) with { Changed = changed };
        }
        catch (HostIoException e)
        {
            // Whoever makes VFs next must find it as it was.
            if (probeBefore is not null)
                Attempt(() => { watched.Write($"{folder}/sriov_drivers_autoprobe", probeBefore); return null; });
            return Refused(pf, HoldingReasons.SriovFailed, e.Message) with { NumVfs = Inventory.Number(Attempt(() => watched.ReadText($"{folder}/sriov_numvfs"))), Changed = changed };
        }

        void Write(string purpose, int number)
        {
            work.Purpose = purpose;
            try
            {
                changed = true;
                watched.Write($"{folder}/sriov_numvfs", $"{number}");
            }
            finally
            {
                work.Purpose = null;
            }
        }
    }

    private static string? Attempt(Func<string?> read)
    {
        try
        {
            return read();
        }
        catch (HostIoException)
        {
            return null;
        }
    }

    /// <summary>Waits until all VFs are linked and there: a driver may count them before it has made them.</summary>
    private SriovOutcome Await(PciAddress pf, int numVfs, WatchedFileSystem watched, BlockingWork work, Func<int?> numberNow)
    {
        long began = work.Timestamp;
        while (true)
        {
            int? counted = numberNow();
            int present = Present(pf, watched);
            if (counted == numVfs && present == numVfs)
                return new SriovOutcome { Address = pf, Applied = true, NumVfs = counted };
            string again = $"Remove them all and have them made again (echo 0 > /sys/bus/pci/devices/{pf}/sriov_numvfs), or give the PciDeviceSpec a number that the card makes.";
            if (counted != numVfs)
                return Refused(pf, HoldingReasons.SriovFailed, $"{numVfs} VFs of {pf} were asked for, and its driver made {counted ?? 0}; the kernel log (dmesg) says why. {again}") with { NumVfs = counted };
            if (work.Elapsed(began) >= options.VfTimeout)
                return Refused(pf, HoldingReasons.SriovFailed, $"{pf} counts {numVfs} VFs, and only {present} of them are there after {options.VfTimeout.TotalSeconds:0} s; the kernel log (dmesg) says why. {again}") with { NumVfs = counted };
            work.Pause(BetweenLooks);
        }
    }

    /// <summary>Why the VFs that would go must stay; null when nothing uses them.</summary>
    private SriovOutcome? UseOfVfs(PciAddress pf, WatchedFileSystem watched, out List<HostFunction> vfs)
    {
        var inventory = new Inventory(watched);
        HostUsage usage = watched.Usage();
        vfs = inventory.ReadNow(inventory.VfsOf(pf), usage.Use);
        if (vfs.Count == 0)
            return null;
        try
        {
            using var claims = new ExclusiveDisks();
            new PreBindChecks(vfs, [], usage).CheckGuards(watched, guards, ours: _ => false, administrators: _ => null, claims);
            return null;
        }
        catch (RefusalException refusal)
        {
            return Refused(pf, HoldingReasons.GuardRefused, $"The VFs of {pf} can't be removed: {refusal.Message}");
        }
    }

    /// <summary>A claim's binder, which reports VF settings that could not be restored.</summary>
    private DeviceBinder NewBinder(WatchedFileSystem watched, BlockingWork work) => new(watched, work)
    {
        NotClean = (device, why) => Withhold(device, why, watched),
        Warn = message => logger.LogWarning("{Message}", message),
    };

    /// <summary>A VF that keeps what its owner left goes to nobody else; that is on disk before its claim is forgotten.</summary>
    private void Withhold(JournalDevice device, string why, WatchedFileSystem watched)
    {
        why = $"{why} It is kept from claims until the agent makes its PF's VFs again (another sriov.numVfs, or a claim for the PF) or the host is rebooted.";
        logger.LogError("{Message}", why);
        memory.Update(watched, Key(device), device.Address, r => r with { NotClean = new NotCleanMark(bootId!, why, time.GetUtcNow()) });
    }

    /// <summary>VFs that were removed: what comes in their place is as new.</summary>
    private void Forgive(IEnumerable<HostFunction> vfs, WatchedFileSystem watched)
    {
        foreach (HostFunction vf in vfs)
            memory.Forgive(watched, Key(vf), vf.Address);
    }

    /// <summary>What is on record of a device's VFs, or of it as a VF: as first found in this boot, before an owner could change it.</summary>
    private static JournalDevice WithVfs(JournalDevice device, HostFunction found, JournalDevice? known, bool sameBoot, IReadOnlyList<HostFunction> vfs, DeviceBinder binder)
    {
        JournalDevice before = known is null
            ? device
            : device with { OriginalVf = sameBoot ? known.OriginalVf : null, OriginalVfs = known.OriginalVfs, OriginalAutoprobe = known.OriginalAutoprobe };
        if (found.Function.ParentAddress is not null && (known is null || !sameBoot))
            return before with { OriginalVf = binder.SettingsOf(found) };
        return found.NumVfs is > 0 && !(sameBoot && known?.OriginalVfs is not null)
            ? before with { OriginalAutoprobe = binder.AutoprobeOf(found.Address), OriginalVfs = binder.VfsAsTheyAre(found.Address, vfs) }
            : before;
    }
}
