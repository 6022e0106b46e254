using System.Buffers.Binary;
using Microsoft.Extensions.Logging;
using PciOperator.Core;

namespace PciOperator.Host;

/// <summary>
/// Clean devices: resets before and after a claim, and what is remembered of a device so that it isn't given to the next owner as it is.
/// </summary>
/// <param name="memory">What is remembered.</param>
/// <param name="table">The claims: in which boot they are.</param>
/// <param name="time">The present.</param>
/// <param name="logger">Where what could not be cleaned is said.</param>
/// <param name="patience">How long a device may take to answer after a reset, unless it asks for more.</param>
/// <param name="tried">Told of each try to reset, from any thread.</param>
internal sealed class DeviceCleaning(
    DeviceMemory memory,
    ClaimTable table,
    TimeProvider time,
    ILogger logger,
    TimeSpan patience,
    Action<ResetTry> tried
)
{
    // Guards what follows it, and nothing is called under it.
    private readonly Lock _gate = new();

    // Devices that this agent has opened through VFIO.
    private readonly HashSet<string> _opened = new(StringComparer.Ordinal);

    /// <summary>Clean for the claim: every device reset and seen to answer, or noted why not.</summary>
    /// <returns>The entry with what could not be reset, where that is allowed.</returns>
    /// <exception cref="RefusalException">ResetFailed: a device with reset: required could not be reset, or one did not come
    /// back.</exception>
    public JournalEntry CleanBefore(JournalEntry entry, PreBindChecks checks, WatchedFileSystem watched, BlockingWork work)
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
            HostFunction seen = checks.Devices.First(f => f.Address == device.Address);
            memory.TryUpdate(
                watched,
                device,
                logger,
                r =>
                    outcome.Method is { } method
                        ? r with
                        {
                            ProvenReset = method,
                            NoReset = null,
                            NotClean = null,
                        }
                        : r with
                        {
                            NotClean = outcome.Answers
                                ? r.NotClean
                                : new NotCleanMark(table.BootId, outcome.Sentence + " The host's next boot resets it.", time.GetUtcNow()),
                            NoReset =
                                device.Reset == ResetMode.Required || r.ProvenReset is null
                                    ? new NoResetMark(
                                        outcome.Sentence,
                                        time.GetUtcNow(),
                                        kernel,
                                        string.Join(' ', seen.ResetMethods),
                                        string.Join(' ', entry.Devices.Select(d => d.Address))
                                    )
                                    : r.NoReset,
                        }
            );
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
    public void ProveUsable(JournalEntry entry, WatchedFileSystem watched, BlockingWork work)
    {
        foreach (
            JournalDevice device in entry.Devices.Where(d =>
                d.Reset != ResetMode.Skip && d.IommuGroup is not null && VfioDrivers.IsVfio(d.TargetDriver)
            )
        )
        {
            lock (_gate)
            {
                if (_opened.Contains(DeviceMemory.Key(device)))
                    continue;
            }

            // By its group: a kernel that has none leaves it to the VMM to find out.
            if (!watched.Exists(SysfsPaths.GroupNode(device.IommuGroup!.Value)))
                continue;
            work.Purpose = $"opening {device.Address} through VFIO";
            try
            {
                byte[] config = watched.ReadConfigThroughVfio(device.Address, device.IommuGroup!.Value, 4);
                string found =
                    config.Length < 4
                        ? "nothing"
                        : $"{BinaryPrimitives.ReadUInt16LittleEndian(config):x4}:{BinaryPrimitives.ReadUInt16LittleEndian(config.AsSpan(2)):x4}";
                if (found != $"{device.VendorId}:{device.ProductId}")
                {
                    throw new RefusalException(
                        HoldingReasons.OpenFailed,
                        $"{device.Address} is bound to {device.TargetDriver}, and through VFIO its configuration space says {found} instead of {device.VendorId}:{device.ProductId}."
                    );
                }
            }
            catch (HostIoException e) when (e.Errno == Errnos.EBUSY)
            {
                throw new RefusalException(
                    HoldingReasons.InUse,
                    $"{device.Address} can't be opened through VFIO: a process has its IOMMU group open."
                );
            }
            catch (HostIoException e)
            {
                throw new RefusalException(
                    HoldingReasons.OpenFailed,
                    $"{device.Address} is bound to {device.TargetDriver}, but no VM could open it: {e.Message}{Advice(e.Errno)}"
                );
            }
            finally
            {
                work.Purpose = null;
            }

            lock (_gate)
                _opened.Add(DeviceMemory.Key(device));
        }

        static string Advice(int errno) =>
            errno == Errnos.EINVAL
                ? " The kernel could not enable it, as a rule because its BARs have no address space (dmesg: \"BAR … not claimed\"): boot with pci=realloc, or turn on Above 4G Decoding in the firmware."
                : "";
    }

    /// <summary>Clean for the next owner: every device reset, or marked so that there is none until the next boot.</summary>
    public void CleanAfter(JournalEntry entry, DeviceBinder binder, WatchedFileSystem watched, BlockingWork work)
    {
        JournalDevice[] wanted =
        [
            .. entry.Devices.Where(d =>
                d.Reset != ResetMode.Skip && binder.IsThere(d) && Inventory.DriverOf(watched, d.Address) == d.TargetDriver
            ),
        ];
        foreach (ResetOutcome outcome in Run(watched, work).Reset(entry, wanted, Proven))
        {
            JournalDevice device = outcome.Device;
            if (outcome.Method is { } method)
            {
                memory.TryUpdate(watched, device, logger, r => r with { ProvenReset = method, NoReset = null, NotClean = null });
                continue;
            }

            if (outcome.Answers && device.Reset != ResetMode.Required && Proven(device) is null)
                continue;
            string why =
                $"After the claim {entry.ClaimNamespace}/{entry.ClaimName}: {outcome.Sentence} It is not clean, and kept from claims until the host's next boot resets it.";
            logger.LogError("{Message}", why);
            memory.Update(
                watched,
                DeviceMemory.Key(device),
                device.Address,
                r => r with { NotClean = new NotCleanMark(table.BootId, why, time.GetUtcNow()) }
            );
        }
    }

    /// <summary>Whether a device could not be cleaned in this boot: its host driver may not take it.</summary>
    public bool IsUnclean(JournalDevice device) => memory.NotCleanOf(DeviceMemory.Key(device), device.Address)?.BootId == table.BootId;

    /// <summary>Puts the kernel's lists of reset methods back as they were found.</summary>
    public void RestoreMethods(JournalEntry entry, DeviceBinder binder, WatchedFileSystem watched, BlockingWork work) =>
        Run(watched, work).RestoreMethods(entry.Devices, binder.IsThere);

    /// <summary>Before a guest can touch a device of one-time use its mark is on disk.</summary>
    public void MarkUsedOnce(JournalEntry entry, WatchedFileSystem watched)
    {
        foreach (JournalDevice device in entry.Devices.Where(d => d.OneTimeUse))
        {
            memory.Update(
                watched,
                DeviceMemory.Key(device),
                device.Address,
                r =>
                    r.UsedOnce?.ClaimUid == entry.ClaimUid
                        ? r
                        : r with
                        {
                            UsedOnce = new UsedOnceMark(entry.ClaimUid, entry.ClaimNamespace, entry.ClaimName, time.GetUtcNow()),
                        }
            );
        }
    }

    /// <summary>The marks that a claim left on devices which it never had.</summary>
    public void UnmarkUsedOnce(JournalEntry entry, WatchedFileSystem watched) => memory.Unmark(watched, entry.ClaimUid);

    /// <summary>A VF that keeps what its owner left goes to nobody else; that is on disk before its claim is forgotten.</summary>
    public void Withhold(JournalDevice device, string why, WatchedFileSystem watched)
    {
        why =
            $"{why} It is kept from claims until the agent makes its PF's VFs again (another sriov.numVfs, or a claim for the PF) or the host is rebooted.";
        logger.LogError("{Message}", why);
        memory.Update(
            watched,
            DeviceMemory.Key(device),
            device.Address,
            r => r with { NotClean = new NotCleanMark(table.BootId, why, time.GetUtcNow()) }
        );
    }

    /// <summary>VFs that were removed: what comes in their place is as new.</summary>
    public void Forgive(IEnumerable<HostFunction> vfs, WatchedFileSystem watched)
    {
        foreach (HostFunction vf in vfs)
            memory.Forgive(watched, DeviceMemory.Key(vf), vf.Address);
    }

    private ResetRun Run(WatchedFileSystem watched, BlockingWork work) => new(watched, work, time, patience, tried);

    private string? Proven(JournalDevice device) => memory.Find(DeviceMemory.Key(device), device.Address)?.ProvenReset;
}
