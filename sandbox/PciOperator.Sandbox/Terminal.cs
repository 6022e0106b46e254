using Spectre.Console;

namespace PciOperator.Sandbox;

/// <summary>Standard output, with colours where somebody looks at it.</summary>
internal static class Terminal
{
    /// <summary>A console that writes no colour codes into files and pipes, whatever the environment says of colours.</summary>
    public static IAnsiConsole Open() =>
        AnsiConsole.Create(
            Console.IsOutputRedirected
                // Without the enrichers, which turn codes on again where CI's variables are set.
                ? new AnsiConsoleSettings
                {
                    Ansi = AnsiSupport.No,
                    ColorSystem = ColorSystemSupport.NoColors,
                    Enrichment = new ProfileEnrichment { UseDefaultEnrichers = false },
                }
                : new AnsiConsoleSettings()
        );
}
