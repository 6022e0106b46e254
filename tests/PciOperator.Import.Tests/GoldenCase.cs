using PciOperator.Cli;

namespace PciOperator.Import.Tests;

/// <summary>A folder of <c>cases</c>: files, the arguments of <c>kubectl pci import</c>, and what it prints.</summary>
public sealed class GoldenCase(string folder)
{
    public string Name => Path.GetFileName(folder);

    /// <summary>What is printed.</summary>
    public string Expected => File.Exists(ExpectedPath) ? File.ReadAllText(ExpectedPath) : "";

    private string ExpectedPath => Path.Combine(folder, "expected.yaml");

    public static IReadOnlyList<GoldenCase> All { get; } =
    [
        .. Directory
            .GetDirectories(Path.Combine(AppContext.BaseDirectory, "cases"))
            .Order(StringComparer.Ordinal)
            .Select(f => new GoldenCase(f)),
    ];

    public static TheoryData<string> Names => [.. All.Select(c => c.Name)];

    public static GoldenCase Of(string name) => All.Single(c => c.Name == name);

    /// <summary>Runs the command in the folder.</summary>
    public Task<(int Code, string Out, string Error)> RunAsync() =>
        RunAsync(
            name => File.ReadAllBytes(Path.Combine(folder, name)),
            File.ReadAllText(Path.Combine(folder, "args")).Split([' ', '\n'], StringSplitOptions.RemoveEmptyEntries)
        );

    /// <summary>The same of the files, without the command; only for what needs no options but --node.</summary>
    public ImportResult Import()
    {
        string[] args = File.ReadAllText(Path.Combine(folder, "args")).Split([' ', '\n'], StringSplitOptions.RemoveEmptyEntries);
        SourceFile Source(string name) => new(name, File.ReadAllText(Path.Combine(folder, name)));
        SourceFile[] files = [.. args[1..].TakeWhile(a => !a.StartsWith('-')).Select(Source)];
        return args[0] switch
        {
            "sriov" => SriovImport.Read(files),
            "harvester" => HarvesterImport.Read(files),
            _ => NovaConfImport.Read(
                new NovaConfSource
                {
                    Files = files,
                    NodeFiles =
                    [
                        .. args.Where(a => a.Contains('=')).Select(a => a.Split('=')).Select(p => new NodeFile(p[0], Source(p[1]))),
                    ],
                }
            ),
        };
    }

    /// <summary>Runs one command line.</summary>
    internal static async Task<(int Code, string Out, string Error)> RunAsync(
        Func<string, byte[]> readFile,
        IEnumerable<string> args,
        string input = ""
    )
    {
        using var output = new StringWriter();
        using var error = new StringWriter();
        using var io = new CliIo
        {
            Out = output,
            Error = error,
            In = new StringReader(input),
            ReadFile = readFile,
        };
        int code = await CliProgram.RunAsync(["import", .. args], io, TestContext.Current.CancellationToken);
        return (code, output.ToString(), error.ToString());
    }
}
