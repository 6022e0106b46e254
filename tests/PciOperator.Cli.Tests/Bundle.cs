using System.Formats.Tar;
using System.IO.Compression;

namespace PciOperator.Cli.Tests;

/// <summary>A support bundle, as who helps unpacks it.</summary>
internal static class Bundle
{
    /// <summary>Its files' contents, by their names.</summary>
    public static async Task<IReadOnlyDictionary<string, string>> ReadAsync(string file)
    {
        var entries = new Dictionary<string, string>();
        await using var unpacked = new GZipStream(File.OpenRead(file), CompressionMode.Decompress);
        using var archive = new TarReader(unpacked);
        while (archive.GetNextEntry() is { } entry)
        {
            using var text = new StreamReader(entry.DataStream ?? Stream.Null);
            entries[entry.Name] = await text.ReadToEndAsync(TestContext.Current.CancellationToken);
        }

        return entries;
    }
}
