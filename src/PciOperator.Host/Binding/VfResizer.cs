using PciOperator.Core;

namespace PciOperator.Host;

/// <summary>The number of VFs of a PF.</summary>
/// <param name="files">The host.</param>
/// <param name="reads">The looks that claims share.</param>
/// <param name="table">The claims, which may hold VFs that would go, and which wait for VFs to come.</param>
/// <param name="guards">What keeps the host alive.</param>
/// <param name="cleaning">What is remembered of VFs ends with them.</param>
/// <param name="changes">Told when a change has ended.</param>
/// <param name="time">What limits are measured by.</param>
/// <param name="options">The limits.</param>
internal sealed class VfResizer(
    IHostFileSystem files,
    SharedReads reads,
    ClaimTable table,
    Guards guards,
    DeviceCleaning cleaning,
    HostChanges changes,
    TimeProvider time,
    PassthroughHostOptions options
)
{
    private static readonly TimeSpan BetweenLooks = TimeSpan.FromMilliseconds(50);

    /// <inheritdoc cref="PassthroughHost.SetVfsAsync"/>
    public async Task<SriovOutcome> SetVfsAsync(PciAddress pf, int numVfs, bool? autoprobe, CancellationToken ct)
    {
        string? stalledAt = null;
        SriovOutcome NotYet() =>
            Refused(
                pf,
                HoldingReasons.WriteBlocked,
                $"{pf} doesn't have {numVfs} VFs yet: the kernel has not finished {stalledAt} for {options.WriteTimeout.TotalSeconds:0} s; it can't be cancelled. A process may still use a VF: stop it. The work goes on when the kernel does."
            );
        BlockingWork NewWork() => new(time, options.WriteTimeout) { Stalled = doing => stalledAt = doing };
        if (table.ResizeOf(pf) is { } earlier)
            return Busy(pf, earlier);

        // Reading the number waits for the device's lock, which somebody else's write may hold.
        BlockingWork look = NewWork();
        Task<PfNumbers> looking = Run(
            look,
            $"sriov {pf}",
            () => PfNumbers.Of(pf, numVfs, autoprobe, new WatchedFileSystem(files, look, reads))
        );
        await look.EndedOrStalled.WaitAsync(ct);
        if (!looking.IsCompleted && !look.Ended.IsCompleted)
            return NotYet();
        PfNumbers now = await looking;
        if (now.IsSo)
        {
            return new SriovOutcome
            {
                Address = pf,
                Applied = true,
                NumVfs = numVfs,
            };
        }

        ResizeStart start = table.BeginResize(pf, now.HasVfs, takesNothing: now.SameNumber, NewWork);
        if (start.Running is { } running)
            return Busy(pf, running);
        if (start.Begun is not { } work)
            return HeldBy(pf, numVfs, start.Holders);
        Task<SriovOutcome> result = Run(work, $"sriov {pf}", () => ResizeAndEnd(pf, numVfs, autoprobe, now.SameNumber, work));
        await work.EndedOrStalled.WaitAsync(ct);
        return result.IsCompleted || work.Ended.IsCompleted ? await result : NotYet();
    }

    private SriovOutcome ResizeAndEnd(PciAddress pf, int numVfs, bool? autoprobe, bool sameNumber, BlockingWork work)
    {
        try
        {
            return Resize(pf, numVfs, autoprobe, sameNumber, new WatchedFileSystem(files, work, reads), work);
        }
        finally
        {
            table.EndResize(pf);
            changes.Raise();
        }
    }

    private static SriovOutcome HeldBy(PciAddress pf, int numVfs, IReadOnlyList<(string ClaimUid, string Claim)> holders) =>
        Refused(
            pf,
            HoldingReasons.OwnedByOther,
            $"{pf} can't have {numVfs} VFs now: it or its VFs are held by {string.Join(", ", holders.Select(h => h.Claim))}. It is done when they are released."
        ) with
        {
            BlockedBy = [.. holders.Select(h => h.ClaimUid)],
        };

    private static SriovOutcome Busy(PciAddress pf, BlockingWork running) =>
        Refused(
            pf,
            HoldingReasons.Busy,
            $"The number of VFs of {pf} is being changed already{(running.IsStalled ? ", and the kernel has not finished" : "")}."
        );

    /// <summary>Starts work that answers.</summary>
    private static Task<T> Run<T>(BlockingWork work, string name, Func<T> body)
    {
        var result = new TaskCompletionSource<T>(TaskCreationOptions.RunContinuationsAsynchronously);
        work.Start(
            name,
            () =>
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
            }
        );
        return result.Task;
    }

    /// <summary>VFs that can be used: linked from their PF, and there.</summary>
    private static int Present(PciAddress pf, IHostFileSystem files) =>
        Inventory.NumberedVfsOf(files, pf).Values.Count(vf => Inventory.IdsOf(files, vf) is not null);

    private static SriovOutcome Refused(PciAddress pf, string reason, string message) =>
        new()
        {
            Address = pf,
            Applied = false,
            Reason = reason,
            Message = message,
        };

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
            {
                return Refused(pf, HoldingReasons.Busy, $"Somebody else changes the number of VFs of {pf}, from {numVfs} to {now}.") with
                {
                    NumVfs = now,
                };
            }

            if (numVfs < 0 || numVfs > total)
            {
                return Refused(pf, HoldingReasons.SriovFailed, $"{pf} can have 0 to {total} VFs; {numVfs} is not possible.") with
                {
                    NumVfs = now,
                };
            }

            if (now != numVfs && Inventory.DriverOf(watched, pf) is var driver && (driver is null || VfioDrivers.IsVfio(driver)))
            {
                return Refused(
                    pf,
                    HoldingReasons.SriovFailed,
                    $"{pf} is on {driver ?? "no driver"}, and only its own driver can change the number of its VFs: bind it to that first."
                ) with
                {
                    NumVfs = now,
                };
            }

            List<HostFunction> going = [];
            if (now != numVfs && now > 0 && UseOfVfs(pf, watched, out going) is { } refusal)
                return refusal with { NumVfs = now };
            string? probe = autoprobe switch
            {
                true => "1",
                false => "0",
                null => null,
            };
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
                {
                    return Refused(
                        pf,
                        HoldingReasons.SriovFailed,
                        $"The kernel took 0 as the number of VFs of {pf}, and shows {left}; the kernel log (dmesg) says why."
                    ) with
                    {
                        NumVfs = left,
                        Changed = true,
                    };
                }

                cleaning.Forgive(going, watched);
            }

            if (now != numVfs && numVfs > 0)
                Write($"making {numVfs} VFs of {pf}", numVfs);
            return Await(pf, numVfs, watched, work, Now) with { Changed = changed };
        }
        catch (HostIoException e)
        {
            // Whoever makes VFs next must find it as it was.
            if (probeBefore is not null)
            {
                Attempt(() =>
                {
                    watched.Write($"{folder}/sriov_drivers_autoprobe", probeBefore);
                    return null;
                });
            }

            return Refused(pf, HoldingReasons.SriovFailed, e.Message) with
            {
                NumVfs = Inventory.Number(Attempt(() => watched.ReadText($"{folder}/sriov_numvfs"))),
                Changed = changed,
            };
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
            {
                return new SriovOutcome
                {
                    Address = pf,
                    Applied = true,
                    NumVfs = counted,
                };
            }

            string again =
                $"Remove them all and have them made again (echo 0 > /sys/bus/pci/devices/{pf}/sriov_numvfs), or give the PciDeviceSpec a number that the card makes.";
            if (counted != numVfs)
            {
                return Refused(
                    pf,
                    HoldingReasons.SriovFailed,
                    $"{numVfs} VFs of {pf} were asked for, and its driver made {counted ?? 0}; the kernel log (dmesg) says why. {again}"
                ) with
                {
                    NumVfs = counted,
                };
            }

            if (work.Elapsed(began) >= options.VfTimeout)
            {
                return Refused(
                    pf,
                    HoldingReasons.SriovFailed,
                    $"{pf} counts {numVfs} VFs, and only {present} of them are there after {options.VfTimeout.TotalSeconds:0} s; the kernel log (dmesg) says why. {again}"
                ) with
                {
                    NumVfs = counted,
                };
            }

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

    /// <summary>A PF against the number of VFs that it shall have.</summary>
    /// <param name="IsSo">It has them, and all is as wished.</param>
    /// <param name="SameNumber">Then nothing goes that somebody could hold: only autoprobe is set, or VFs are waited for.</param>
    /// <param name="HasVfs">It has VFs, or it can't be known.</param>
    private readonly record struct PfNumbers(bool IsSo, bool SameNumber, bool HasVfs)
    {
        public static PfNumbers Of(PciAddress pf, int numVfs, bool? autoprobe, IHostFileSystem files) =>
            Matches(pf, numVfs, autoprobe, files)
                ? new PfNumbers(true, true, true)
                : new PfNumbers(false, HasNumber(pf, numVfs, files), !HasNumber(pf, 0, files));

        private static bool HasNumber(PciAddress pf, int numVfs, IHostFileSystem files) =>
            Inventory.Number(Attempt(() => files.ReadText($"{SysfsPaths.Device(pf)}/sriov_numvfs"))) == numVfs;

        private static bool Matches(PciAddress pf, int numVfs, bool? autoprobe, IHostFileSystem files)
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
    }
}
