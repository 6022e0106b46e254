using System.Globalization;
using PciOperator.Core;

namespace PciOperator.Host;

/// <summary>
/// What is wrong with devices: configuration space that doesn't answer, errors that they report (AER), links below the best
/// that the agent has seen them have here. Looked at in each scan, never polled, and never by waking a device that sleeps.
/// </summary>
/// <remarks>
/// What would come and go by itself is not said: a GPU's or an accelerator's link speed follows its load, and correctable
/// errors are normal until they come fast. VFs have neither a link nor error counters of their own. The counters' history
/// is the agent's memory: it begins anew with the agent.
/// </remarks>
internal sealed class DeviceHealth(IHostFileSystem files, TimeProvider time)
{
    public const string AerErrors = "AerErrors";
    public const string LinkDegraded = "LinkDegraded";
    private const int DisplayClass = 0x03;
    private const int AcceleratorClass = 0x12;
    private const int WidestLink = 32;

    // Link Status read as all ones: the width field says 63.
    private const int WidthOfAllOnes = 63;

    private const long ManyCorrectable = 60;
    private const long FewCorrectable = 6;
    private static readonly TimeSpan Recent = TimeSpan.FromHours(1);
    private static readonly TimeSpan ShortestWindow = TimeSpan.FromMinutes(1);

    private readonly Lock _gate = new();
    private readonly Dictionary<PciAddress, Memory> _memories = [];

    /// <summary>The functions with their problems; one whose configuration space is gone is withheld.</summary>
    /// <param name="functions">As the inventory read them.</param>
    /// <param name="isHeld">Whether a claim holds it: its configuration space may be locked by a reset, and is left alone.</param>
    /// <param name="only">The functions to look at; the others are given back as they are. Null: all.</param>
    public List<HostFunction> Look(
        IReadOnlyList<HostFunction> functions,
        Func<PciAddress, bool> isHeld,
        IReadOnlySet<PciAddress>? only = null
    )
    {
        lock (_gate)
        {
            if (_memories.Count > 0)
            {
                HashSet<PciAddress> present = [.. functions.Select(f => f.Address)];
                foreach (PciAddress gone in _memories.Keys.Where(a => !present.Contains(a)).ToList())
                    _memories.Remove(gone);
            }

            return
            [
                .. functions.Select(f =>
                    f.Function.IsBridge || f.Function.ParentAddress is not null || only?.Contains(f.Address) == false
                        ? f
                        : Look(f, isHeld(f.Address))
                ),
            ];
        }
    }

    private HostFunction Look(HostFunction f, bool held)
    {
        // Another card begins anew.
        var device = KnownDevice.Of(f);
        if (
            !_memories.TryGetValue(f.Address, out Memory? memory)
            || DeviceIdentity.Difference(f.Address, memory.Device, device, stillOurs: true) is not null
        )
        {
            _memories[f.Address] = memory = new Memory(device);
        }

        string folder = SysfsPaths.Device(f.Address);

        // Any look at the configuration space or the link of a device that sleeps would wake it, or find it silent.
        bool awake =
            Text($"{folder}/power/runtime_status") is not ("suspended" or "suspending" or "resuming")
            && Text($"{folder}/power_state") is not ("D3cold" or "D3hot");
        string? link = null;
        bool gone = false;
        if (awake)
        {
            int? width = Inventory.Number(Text($"{folder}/current_link_width"));
            gone = width == WidthOfAllOnes || (!held && !VfioDrivers.IsVfio(f.Driver) && IsAllOnes($"{folder}/config"));
            link = gone ? null : Link(f, folder, width, memory);
        }

        string? errors = Errors(f, folder, memory);
        if (!gone && link is null && errors is null)
        {
            return f.Problems.Count == 0 && f.WithheldBy != WithheldWords.ConfigSpaceGone
                ? f
                : f with
                {
                    Problems = [],
                    Withheld = null,
                    WithheldBy = null,
                };
        }

        string silent =
            $"{f.Address} doesn't answer any more (its configuration space reads ffff): it has fallen off the bus. Look at its power and its seat; echo 1 > {folder}/remove and echo 1 > /sys/bus/pci/rescan find it again, or a reboot does.";
        var problems = new List<DeviceProblem>();
        if (gone)
            problems.Add(new DeviceProblem(WithheldWords.ConfigSpaceGone, silent));
        if (errors is not null)
            problems.Add(new DeviceProblem(AerErrors, errors));
        if (link is not null)
            problems.Add(new DeviceProblem(LinkDegraded, link));
        return f with { Problems = problems, Withheld = gone ? silent : null, WithheldBy = gone ? WithheldWords.ConfigSpaceGone : null };
    }

    private bool IsAllOnes(string config) =>
        BootFacts.Optional(() => files.ReadBytes(config, 4)) is { Length: 4 } first && first.AsSpan().IndexOfAnyExcept((byte)0xff) < 0;

    /// <summary>
    /// Lanes and speed against the best that the device has had at this place: what chip and port could do says little, since ports share
    /// lanes, and boards wire fewer than their chips have.
    /// </summary>
    private string? Link(HostFunction f, string folder, int? width, Memory memory)
    {
        if (width is not (> 0 and <= WidestLink and var lanes))
            return null;
        var words = new List<string>();
        memory.Lanes = Math.Max(memory.Lanes, lanes);
        if (lanes < memory.Lanes)
            words.Add($"with {lanes} of {memory.Lanes} lanes");
        bool paced = f.Function.ClassCode >> 16 is DisplayClass or AcceleratorClass;
        if (!paced && Speed(Text($"{folder}/current_link_speed")) is { } speed)
        {
            memory.Speed = Math.Max(memory.Speed, speed);
            if (speed < memory.Speed)
                words.Add(string.Create(CultureInfo.InvariantCulture, $"at {speed:0.0} of {memory.Speed:0.0} GT/s"));
        }

        return words.Count == 0
            ? null
            : $"{f.Address}: its PCIe link runs {string.Join(" and ", words)}, below what it has had here: reseat the card, look at its riser and cable, and at the slot's settings in the BIOS{(words.Exists(w => w.StartsWith("at ", StringComparison.Ordinal)) ? " (a device that saves power may also lower its speed)" : "")}.";
    }

    /// <summary>"8.0 GT/s PCIe" as 8.0; null for "Unknown".</summary>
    private static double? Speed(string? text) =>
        text is not null
        && text.IndexOf(" GT/s", StringComparison.Ordinal) is > 0 and var end
        && double.TryParse(text.AsSpan(0, end), CultureInfo.InvariantCulture, out double speed)
            ? speed
            : null;

    /// <summary>
    /// Uncorrectable errors (nonfatal, fatal) that came since the agent first saw the device, for an hour after the last;
    /// correctable ones while they come faster than one a second, until fewer than one in ten seconds come.
    /// </summary>
    /// <remarks>
    /// Documentation/ABI/testing/sysfs-bus-pci-devices-aer: aer_dev_correctable, …; the kernel counts in its memory, no device is touched.
    /// </remarks>
    private string? Errors(HostFunction f, string folder, Memory memory)
    {
        DateTimeOffset now = time.GetUtcNow();
        if (
            Count($"{folder}/aer_dev_nonfatal", "TOTAL_ERR_NONFATAL") is { } nonfatal
            && Count($"{folder}/aer_dev_fatal", "TOTAL_ERR_FATAL") is { } fatal
        )
        {
            if (memory.Seen is not { } seen || nonfatal < seen.Nonfatal || fatal < seen.Fatal)
                (memory.First, memory.Uncorrectable) = ((nonfatal, fatal), null);
            else if (nonfatal > seen.Nonfatal || fatal > seen.Fatal)
                memory.Uncorrectable = now;
            memory.Seen = (nonfatal, fatal);
        }

        if (memory.Uncorrectable is { } last && now - last > Recent)
            (memory.Uncorrectable, memory.First) = (null, memory.Seen!.Value);
        Correctable(Count($"{folder}/aer_dev_correctable", "TOTAL_ERR_COR"), memory, now);
        if (memory.Uncorrectable is not null)
        {
            return $"{f.Address} reported {memory.Seen!.Value.Nonfatal - memory.First.Nonfatal} nonfatal and {memory.Seen.Value.Fatal - memory.First.Fatal} fatal PCIe errors lately: dmesg | grep {f.Address} says which; reseat the card, look at its riser and cable, and bring its firmware up to date.";
        }

        return memory.CorrectableFast
            ? $"{f.Address} reports more than {ManyCorrectable} correctable PCIe errors a minute (bad contact or cable, as a rule): reseat the card, look at its riser and cable; a lower link speed in the BIOS helps too."
            : null;
    }

    private static void Correctable(long? count, Memory memory, DateTimeOffset now)
    {
        if (count is not { } total)
            return;
        if (memory.Window is not { } window || total < window.Count)
        {
            (memory.Window, memory.CorrectableFast) = ((now, total), false);
            return;
        }

        TimeSpan elapsed = now - window.At;
        if (elapsed < ShortestWindow)
            return;
        double aMinute = (total - window.Count) / elapsed.TotalMinutes;
        memory.CorrectableFast = aMinute > (memory.CorrectableFast ? FewCorrectable : ManyCorrectable);
        memory.Window = (now, total);
    }

    private long? Count(string path, string total)
    {
        if (Text(path) is not { } text || text.LastIndexOf(total, StringComparison.Ordinal) is not (>= 0 and var at))
            return null;
        ReadOnlySpan<char> number = text.AsSpan(at + total.Length).Trim();
        int end = number.IndexOfAnyExceptInRange('0', '9');
        return long.TryParse(end < 0 ? number : number[..end], CultureInfo.InvariantCulture, out long count) ? count : null;
    }

    private string? Text(string path) => BootFacts.Optional(() => files.ReadText(path));

    /// <summary>What earlier looks at one device found.</summary>
    private sealed class Memory(KnownDevice device)
    {
        public KnownDevice Device => device;

        /// <summary>The most lanes that its link has had here.</summary>
        public int Lanes { get; set; }

        /// <summary>The highest speed that its link has had here, in GT/s.</summary>
        public double Speed { get; set; }

        public (long Nonfatal, long Fatal) First { get; set; }

        public (long Nonfatal, long Fatal)? Seen { get; set; }

        /// <summary>When uncorrectable errors were last seen to have come.</summary>
        public DateTimeOffset? Uncorrectable { get; set; }

        public (DateTimeOffset At, long Count)? Window { get; set; }

        public bool CorrectableFast { get; set; }
    }
}
