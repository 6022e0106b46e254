using Microsoft.Extensions.Logging;
using PciOperator.Core;

namespace PciOperator.Host;

/// <summary>
/// What is remembered against giving a device away, whoever asks: used once, not clean, can't be reset, no driver binds it. Nothing is
/// written to the kernel here.
/// </summary>
/// <param name="files">The host.</param>
/// <param name="memory">What is remembered.</param>
/// <param name="table">The claims: in which boot they are.</param>
/// <param name="diagnosis">How the host was booted.</param>
/// <param name="time">The present.</param>
/// <param name="logger">Where what is forgotten is said.</param>
/// <param name="nodeName">The node's name, for the command that frees a device.</param>
internal sealed class WithheldMarks(
    IHostFileSystem files,
    DeviceMemory memory,
    ClaimTable table,
    HostDiagnosis diagnosis,
    TimeProvider time,
    ILogger logger,
    string nodeName
)
{
    /// <summary>Functions with what is remembered of them.</summary>
    /// <param name="functions">All of the host's functions.</param>
    /// <param name="held">Those that a claim has, from which nothing is withheld.</param>
    /// <param name="boot">The boot that the host is in.</param>
    /// <param name="kernel">Its kernel's version.</param>
    /// <param name="looked">The host, as a look sees it.</param>
    public List<HostFunction> Mark(
        List<HostFunction> functions,
        IReadOnlySet<PciAddress> held,
        string boot,
        string kernel,
        IHostFileSystem looked
    )
    {
        memory.Load();
        memory.Seen(functions.Select(f => KeyValuePair.Create(DeviceMemory.Key(f), f.Address)));
        return
        [
            .. functions.Select(f =>
            {
                if (f.Function.IsBridge)
                    return f;
                string key = DeviceMemory.Key(f);
                if (!held.Contains(f.Address))
                    f = f with { Unbindable = Unbindable(f, kernel, looked) };
                if (
                    memory.Find(key, f.Address) is { ProvenReset: { } proven } record
                    && record.NoReset?.Holds(kernel, f.ResetMethods) != true
                )
                {
                    f = f with { ProvenReset = proven };
                }

                return
                    memory.Knows(key, f.Address)
                    && !held.Contains(f.Address)
                    && Withholding(f, boot, kernel) is var (by, why)
                    && (f.WithheldBy is null || by != WithheldWords.NoReset)
                    ? f with
                    {
                        WithheldBy = by,
                        Withheld = why,
                    }
                    : f;
            }),
        ];
    }

    /// <summary>A device that is withheld is not given to a claim that doesn't have it already, whoever asks.</summary>
    /// <exception cref="RefusalException">Withheld.</exception>
    public void Refuse(AssignmentRequest request, PreBindChecks checks, IHostFileSystem watched)
    {
        string? kernel = null;
        foreach ((DeviceToTake asked, HostFunction found) in request.Devices.Zip(checks.Devices))
        {
            if (
                asked is { Managed: true, Driver: not BindDriver.PciStub }
                && Unbindable(found, kernel ??= HostFacts.KernelVersion(watched), watched) is { } unbindable
            )
            {
                throw new RefusalException(HoldingReasons.Withheld, unbindable);
            }

            if (
                !memory.Knows(DeviceMemory.Key(found), found.Address)
                || Withholding(found, table.BootId, kernel ??= HostFacts.KernelVersion(watched)) is not var (by, why)
            )
            {
                continue;
            }

            if (by == WithheldWords.UsedOnce && memory.MarkOf(DeviceMemory.Key(found), found.Address)?.Mark.ClaimUid == request.ClaimUid)
                continue;
            if (
                by == WithheldWords.NoReset
                && (
                    asked.Reset != ResetMode.Required
                    || memory.Find(DeviceMemory.Key(found), found.Address)?.NoReset?.CoversClaimOf(request.Devices.Select(d => d.Address))
                        != true
                )
            )
            {
                continue;
            }

            throw new RefusalException(HoldingReasons.Withheld, why);
        }

        // The whole card is in the hands of who gets its PF.
        foreach (HostFunction vf in checks.Vfs.Where(vf => memory.Knows(DeviceMemory.Key(vf), vf.Address)))
        {
            if (Withholding(vf, table.BootId, kernel ??= HostFacts.KernelVersion(watched)) is (WithheldWords.UsedOnce, var used))
                throw new RefusalException(HoldingReasons.Withheld, used);
        }
    }

    /// <summary>
    /// The kernel says what it will say again: it is remembered, so that the device isn't taken off its driver for nothing.
    /// </summary>
    public void RememberNotBound(JournalDevice device, RefusalException why, WatchedFileSystem watched)
    {
        if (!VfioDrivers.IsVfio(device.TargetDriver))
            return;
        string kernel = HostFacts.KernelVersion(watched),
            setting = HostFacts.DriverSetting(watched, device.TargetDriver);
        memory.TryUpdate(
            watched,
            device,
            logger,
            r => r with { NotBound = new NotBoundMark(why.Message, time.GetUtcNow(), kernel, device.TargetDriver, setting) }
        );
    }

    /// <summary>A driver has bound it: what was remembered of that is over.</summary>
    public void ForgetNotBound(JournalDevice device, WatchedFileSystem watched)
    {
        if (memory.Find(DeviceMemory.Key(device), device.Address)?.NotBound is not null)
            memory.TryUpdate(watched, device, logger, r => r with { NotBound = null });
    }

    /// <summary>An administrator frees a device.</summary>
    /// <param name="function">The device as it is now; null: it is not there.</param>
    /// <param name="address">Where it is, or was.</param>
    /// <returns>Whether there was something to free.</returns>
    /// <exception cref="HostIoException">The mark can't be removed.</exception>
    public bool Free(HostFunction? function, PciAddress address) =>
        memory.Free(files, DeviceMemory.Key(function?.Function.StableId, address), address);

    /// <summary>What is remembered against giving the device away; the worst first.</summary>
    private (string By, string Why)? Withholding(HostFunction f, string boot, string kernel)
    {
        string free = $"kubectl annotate pcinode {nodeName} pcioperator.io/free={f.Address}";
        DeviceRecord? record = memory.Find(DeviceMemory.Key(f), f.Address);
        if (memory.MarkOf(DeviceMemory.Key(f), f.Address) is (_, var mark))
        {
            return (
                WithheldWords.UsedOnce,
                $"{f.Address} was given to the claim {mark.ClaimNamespace}/{mark.ClaimName} (at {mark.At:u}), and its spec says oneTimeUse: it is kept from other claims until an administrator frees it: {free}"
            );
        }

        if (memory.UnreadablePath(DeviceMemory.Key(f)) is { } path)
        {
            return (
                WithheldWords.UsedOnce,
                $"What the agent remembers of {f.Address} can't be read (it is kept at {path} on the host), so it may have been used once: it is kept from claims until an administrator frees it: {free}"
            );
        }

        if (memory.NotCleanOf(DeviceMemory.Key(f), f.Address) is { } unclean && unclean.BootId == boot)
            return (WithheldWords.NotClean, unclean.Why);
        return record?.NoReset is { } noReset && noReset.Holds(kernel, f.ResetMethods) ? (WithheldWords.NoReset, noReset.Why) : null;
    }

    /// <summary>Why no VFIO driver binds it, as far as can be known without trying (again).</summary>
    private string? Unbindable(HostFunction f, string kernel, IHostFileSystem host)
    {
        if (f.Function.IsBridge || VfioDrivers.IsVfio(f.Driver))
            return null;
        if (
            VfioDenylist.Refuses(f.Function, kernel, isOff: null)
            && VfioDenylist.Refuses(f.Function, kernel, HostFacts.DenylistIsOff(host, diagnosis.BootBy(host)))
        )
        {
            return VfioDenylist.Sentence(f.Function);
        }

        return
            memory.Find(DeviceMemory.Key(f), f.Address)?.NotBound is { } mark
            && mark.Holds(kernel, HostFacts.DriverSetting(host, mark.Driver))
            ? $"{mark.Why} It is tried again with another kernel, another driver or other settings of its module, or when an administrator says so: kubectl annotate pcinode {nodeName} pcioperator.io/free={f.Address}"
            : null;
    }
}
