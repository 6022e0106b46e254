using System.Text;

namespace PciOperator.Cli;

/// <summary>What surrounds the program: streams, terminal, environment, clock. Tests bring their own.</summary>
internal sealed class CliIo : IDisposable
{
    private const int UsualWidth = 80;

    /// <summary>Standard output.</summary>
    public required TextWriter Out { get; init; }

    /// <summary>Standard error.</summary>
    public required TextWriter Error { get; init; }

    /// <summary>Standard input.</summary>
    public TextReader In { get; init; } = TextReader.Null;

    /// <summary>Whether a person reads the output.</summary>
    public bool IsTerminal { get; init; }

    /// <summary>Whether a person reads standard error: progress is shown there.</summary>
    public bool IsErrorTerminal { get; init; }

    /// <summary>Whether a person can answer a question.</summary>
    public bool IsInteractive { get; init; }

    /// <summary>The terminal's columns.</summary>
    public int Width { get; init; } = UsualWidth;

    /// <summary>A variable of the environment; null: not set.</summary>
    public Func<string, string?> Environment { get; init; } = System.Environment.GetEnvironmentVariable;

    /// <summary>The clock.</summary>
    public TimeProvider Time { get; init; } = TimeProvider.System;

    /// <summary>The kubectl that runs this plugin.</summary>
    public string Kubectl { get; init; } = "kubectl";

    /// <summary>Reads a file that the command line names.</summary>
    public Func<string, byte[]> ReadFile { get; init; } = File.ReadAllBytes;

    /// <summary>The machine's list of names; null: it has none.</summary>
    public Func<byte[]?> ReadPciIds { get; init; } = PciIdFiles.Read;

    /// <summary>Whether output has colours (no-color.org: any NO_COLOR that is not empty says no).</summary>
    public bool HasColours => IsTerminal && string.IsNullOrEmpty(Environment("NO_COLOR")) && Environment("TERM") != "dumb";

    /// <summary>The process' own.</summary>
    public static CliIo OfProcess() =>
        new()
        {
            Out = Writer(Console.OpenStandardOutput()),
            Error = Writer(Console.OpenStandardError()),
            In = new StreamReader(Console.OpenStandardInput()),
            IsTerminal = !Console.IsOutputRedirected,
            IsErrorTerminal = !Console.IsErrorRedirected,
            IsInteractive = !Console.IsInputRedirected && !Console.IsErrorRedirected,
            Width = Console.IsOutputRedirected ? UsualWidth : TerminalWidth(),
        };

    /// <inheritdoc/>
    public void Dispose()
    {
        Out.Dispose();
        Error.Dispose();
        In.Dispose();
    }

    private static StreamWriter Writer(Stream stream) => new(stream, new UTF8Encoding(false));

    private static int TerminalWidth()
    {
        try
        {
            return Console.WindowWidth is > 0 and var width ? width : UsualWidth;
        }
        catch (Exception e) when (e is IOException or PlatformNotSupportedException)
        {
            return UsualWidth;
        }
    }
}

/// <summary>Where machines keep the PCI ID list (Debian's pci.ids, Red Hat's hwdata). Nothing is downloaded.</summary>
internal static class PciIdFiles
{
    private static readonly string[] Places = ["/usr/share/misc/pci.ids", "/usr/share/hwdata/pci.ids"];

    /// <summary>The first that can be read.</summary>
    public static byte[]? Read()
    {
        foreach (string place in Places)
        {
            try
            {
                return File.ReadAllBytes(place);
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                // Names are a courtesy: without them ids are shown.
            }
        }

        return null;
    }
}
