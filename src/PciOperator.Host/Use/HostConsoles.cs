using PciOperator.Core;

namespace PciOperator.Host;

/// <summary>
/// The functions that carry a console of the host's: a framebuffer with the text console, a serial port with the kernel's log.
/// </summary>
internal static class HostConsoles
{
    public static Dictionary<PciAddress, string> Read(IHostFileSystem files)
    {
        var found = new Dictionary<PciAddress, string>();

        // The text console takes the first framebuffer and moves to no other unless it is told to (fbcon=map).
        if (FirstFramebuffer(files) is { } framebuffer && IsConsoleOnFramebuffer(files))
        {
            string?[] places =
            [
                files.ReadLink($"/sys/class/graphics/{framebuffer}"),
                files.ReadLink($"/sys/class/graphics/{framebuffer}/device"),
            ];
            foreach (PciAddress address in places.OfType<string>().SelectMany(SysfsPaths.FunctionsOn))
                found.TryAdd(address, $"the framebuffer {framebuffer} of the host's text console");
        }

        foreach (PciAddress address in FirmwareFramebuffers(files.ReadText("/proc/iomem") ?? ""))
            found.TryAdd(address, "the framebuffer that the firmware set up for the host's console");
        foreach (string[] columns in HostUse.Lines(files.ReadText("/proc/consoles") ?? "").Where(c => c.Length > 0))
        {
            foreach (PciAddress address in SysfsPaths.FunctionsOn(files.ReadLink($"/sys/class/tty/{columns[0]}") ?? ""))
                found.TryAdd(address, $"the kernel's console {columns[0]} (console= on the kernel's command line)");
        }

        return found;
    }

    private static string? FirstFramebuffer(IHostFileSystem files) =>
        files
            .List("/sys/class/graphics")
            .Where(name =>
                name.StartsWith("fb", StringComparison.Ordinal) && name.Length > 2 && name.AsSpan(2).IndexOfAnyExceptInRange('0', '9') < 0
            )
            .OrderBy(name => name.Length)
            .ThenBy(name => name, StringComparer.Ordinal)
            .FirstOrDefault();

    private static bool IsConsoleOnFramebuffer(IHostFileSystem files) =>
        files
            .List("/sys/class/vtconsole")
            .Any(name =>
                files.ReadText($"/sys/class/vtconsole/{name}/bind") == "1"
                && files.ReadText($"/sys/class/vtconsole/{name}/name")?.Contains("frame buffer", StringComparison.Ordinal) == true
            );

    /// <summary>In /proc/iomem a framebuffer of the firmware's lies below the function whose memory it is in.</summary>
    private static IEnumerable<PciAddress> FirmwareFramebuffers(string map)
    {
        var functions = new List<(int Depth, PciAddress Address)>();
        foreach (string line in map.Split('\n'))
        {
            int depth = line.Length - line.AsSpan().TrimStart(' ').Length;
            int colon = line.IndexOf(" : ", StringComparison.Ordinal);
            if (colon < 0)
                continue;
            functions.RemoveAll(f => f.Depth >= depth);
            ReadOnlySpan<char> name = line.AsSpan(colon + 3);
            if (PciAddress.TryParse(name, null, out PciAddress address))
                functions.Add((depth, address));
            else if (functions.Count > 0 && name is "BOOTFB" or "efifb" or "vesafb" or "simplefb")
                yield return functions[^1].Address;
        }
    }
}
