using System.Globalization;
using System.Text.RegularExpressions;

namespace PciOperator.Cli.See;

/// <summary>What a PF's driver has counted of a VF since the VF was made or reset; null: it doesn't count that.</summary>
internal sealed partial record TrafficView
{
    /// <summary>What came to the VF: its guest received it.</summary>
    public long? ReceivedBytes { get; init; }

    public long? SentBytes { get; init; }

    public long? ReceivedPackets { get; init; }

    public long? SentPackets { get; init; }

    public long? ReceivedDropped { get; init; }

    public long? SentDropped { get; init; }

    /// <summary>The VFs' traffic, by their addresses, of an agent's metrics.</summary>
    public static IReadOnlyDictionary<string, TrafficView> Of(string metrics)
    {
        var found = new Dictionary<string, TrafficView>();
        foreach (Match line in Series().Matches(metrics))
        {
            if (
                !double.TryParse(line.Groups["value"].ValueSpan, NumberStyles.Float, CultureInfo.InvariantCulture, out double value)
                || !(value is >= 0 and < long.MaxValue)
            )
            {
                continue;
            }

            long count = (long)value;
            string address = line.Groups["address"].Value;
            TrafficView now = found.GetValueOrDefault(address) ?? new TrafficView();
            found[address] = line.Groups["name"].ValueSpan switch
            {
                "receive_bytes" => now with { ReceivedBytes = count },
                "transmit_bytes" => now with { SentBytes = count },
                "receive_packets" => now with { ReceivedPackets = count },
                "transmit_packets" => now with { SentPackets = count },
                "receive_dropped_packets" => now with { ReceivedDropped = count },
                "transmit_dropped_packets" => now with { SentDropped = count },
                _ => now,
            };
        }

        return found;
    }

    /// <summary>A number of bytes as people read it: <c>2.9 MiB</c>.</summary>
    public static string? Bytes(long? bytes)
    {
        if (bytes is not { } number)
            return null;
        string[] units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
        double value = number;
        int unit = 0;
        while (value >= 1024 && unit < units.Length - 1)
        {
            value /= 1024;
            unit++;
        }

        return string.Create(CultureInfo.InvariantCulture, $"{(unit == 0 ? value : Math.Round(value, 1)):0.#} {units[unit]}");
    }

    [GeneratedRegex(
        """^pcioperator_agent_vf_(?<name>[a-z_]+)_total\{[^}\n]*address="(?<address>[0-9a-f:.]+)"[^}\n]*\} (?<value>[0-9.eE+-]+)""",
        RegexOptions.Multiline
    )]
    private static partial Regex Series();
}
