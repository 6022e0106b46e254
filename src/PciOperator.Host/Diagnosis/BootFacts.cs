using System.Globalization;
using System.Text;
using System.Text.RegularExpressions;

namespace PciOperator.Host;

/// <summary>Who made the processor.</summary>
internal enum CpuMaker
{
    Unknown,
    Intel,
    Amd,
    Arm,
}

/// <summary>What stays as it is until the next boot, read once. What can't be read is null or empty: it says nothing.</summary>
internal sealed partial record BootFacts
{
    private const string AcpiTables = "/sys/firmware/acpi/tables";
    private const int FirstCpu = 8192;
    private const int DmarFlags = 37;

    public required KernelCommandLine CommandLine { get; init; }

    public CpuMaker Cpu { get; init; }

    /// <summary>The processor says that a hypervisor runs it.</summary>
    public bool Virtual { get; init; }

    /// <summary>The firmware has a table of Intel's IOMMUs.</summary>
    public bool? Dmar { get; init; }

    /// <summary>The firmware has a table of AMD's IOMMUs.</summary>
    public bool? Ivrs { get; init; }

    /// <summary>DMAR's flag INTR_REMAP (VT-d specification, 8.1): the platform can remap interrupts.</summary>
    public bool? DmarInterruptRemapping { get; init; }

    /// <summary>The kernel remaps interrupts: its interrupt chips are called IR-… then. Null where that can't be told (not x86).</summary>
    public bool? InterruptRemapping { get; init; }

    /// <summary>Ids that vfio-pci was given by the command line or modprobe's configuration, and where that is said.</summary>
    public IReadOnlyList<(string Ids, string Where)> VfioIds { get; init; } = [];

    /// <summary>vfio-pci will be loaded with disable_denylist on.</summary>
    public bool DenylistOff { get; init; }

    public static BootFacts Read(IHostFileSystem files)
    {
        var commandLine = new KernelCommandLine(Optional(() => files.ReadText("/proc/cmdline")) ?? "");
        string cpu = Optional(() => files.ReadBytes("/proc/cpuinfo", FirstCpu)) is { } bytes ? Encoding.ASCII.GetString(bytes) : "";
        bool tables = Optional(() => files.List(AcpiTables)) is { Count: > 0 };
        byte[]? dmar = Optional(() => files.ReadBytes($"{AcpiTables}/DMAR", DmarFlags + 1));
        return new BootFacts
        {
            CommandLine = commandLine,
            Cpu =
                cpu.Contains("GenuineIntel", StringComparison.Ordinal) ? CpuMaker.Intel
                : cpu.Contains("AuthenticAMD", StringComparison.Ordinal) || cpu.Contains("HygonGenuine", StringComparison.Ordinal)
                    ? CpuMaker.Amd
                : cpu.Contains("CPU implementer", StringComparison.Ordinal) ? CpuMaker.Arm
                : CpuMaker.Unknown,
            Virtual = Hypervisor().IsMatch(cpu),
            Dmar = tables ? files.Exists($"{AcpiTables}/DMAR") : null,
            Ivrs = tables ? files.Exists($"{AcpiTables}/IVRS") : null,
            DmarInterruptRemapping = dmar?.Length > DmarFlags ? (dmar[DmarFlags] & 1) != 0 : null,
            InterruptRemapping = RemapsInterrupts(files),
            VfioIds = FindVfioIds(files, commandLine),
            DenylistOff = IsDenylistOff(files, commandLine),
        };
    }

    /// <summary>The interrupt chip of the first interrupt of an IO-APIC tells (the timer's, as a rule).</summary>
    private static bool? RemapsInterrupts(IHostFileSystem files)
    {
        foreach (
            string number in (Optional(() => files.List("/sys/kernel/irq")) ?? []).OrderBy(n =>
                int.TryParse(n, CultureInfo.InvariantCulture, out int i) ? i : int.MaxValue
            )
        )
        {
            string chip = Optional(() => files.ReadText($"/sys/kernel/irq/{number}/chip_name")) ?? "";
            if (chip.Contains("IO-APIC", StringComparison.Ordinal))
                return chip.StartsWith("IR-", StringComparison.Ordinal);
        }

        return null;
    }

    private static List<(string Ids, string Where)> FindVfioIds(IHostFileSystem files, KernelCommandLine commandLine)
    {
        var found = new List<(string, string)>();
        if (commandLine.Values("vfio-pci.ids") is { Count: > 0 } booted)
            found.Add((string.Join(',', booted), "vfio-pci.ids= on the kernel command line"));

        foreach ((string name, string text) in ModprobeFiles(files))
        {
            foreach (Match option in VfioOption().Matches(text))
                found.Add((option.Groups[1].Value, $"the options of vfio-pci in /etc/modprobe.d/{name}"));
        }

        return found;
    }

    /// <summary>The kernel takes y, Y, 1, "on", or nothing at all for a switch that is on (kstrtobool).</summary>
    private static bool IsDenylistOff(IHostFileSystem files, KernelCommandLine commandLine) =>
        (commandLine.Has("vfio-pci.disable_denylist") && commandLine.Values("vfio-pci.disable_denylist").All(IsOn))
        || ModprobeFiles(files).SelectMany(f => DenylistOption().Matches(f.Text)).Any(o => IsOn(o.Groups[1].Value));

    private static bool IsOn(string value) =>
        value.Length == 0 || value[0] is 'y' or 'Y' or '1' or 't' or 'T' || value.Equals("on", StringComparison.OrdinalIgnoreCase);

    private static IEnumerable<(string Name, string Text)> ModprobeFiles(IHostFileSystem files)
    {
        // In a container the host's files are under the root of its first process.
        string folder = Optional(() => files.List("/proc/1/root/etc/modprobe.d")) is { Count: > 0 }
            ? "/proc/1/root/etc/modprobe.d"
            : "/etc/modprobe.d";
        return (Optional(() => files.List(folder)) ?? [])
            .Where(n => n.EndsWith(".conf", StringComparison.Ordinal))
            .Select(name => (name, Optional(() => files.ReadText($"{folder}/{name}")) ?? ""));
    }

    /// <summary>Nothing is decided by it: an error is as good as its absence.</summary>
    internal static T? Optional<T>(Func<T?> read)
        where T : class
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

    [GeneratedRegex(@"^flags\s*:.*\bhypervisor\b", RegexOptions.Multiline)]
    private static partial Regex Hypervisor();

    [GeneratedRegex(@"^\s*options\s+vfio[-_]pci\s(?:.*\s)?disable_denylist(?:=(\S*))?(?:\s|$)", RegexOptions.Multiline)]
    private static partial Regex DenylistOption();

    [GeneratedRegex(@"^\s*options\s+vfio[-_]pci\s.*?\bids=(\S+)", RegexOptions.Multiline)]
    private static partial Regex VfioOption();
}
