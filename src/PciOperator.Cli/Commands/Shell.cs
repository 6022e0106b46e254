using System.CommandLine;
using System.Text.Json.Serialization.Metadata;
using PciOperator.Api;
using PciOperator.Cli.Output;
using PciOperator.Cli.Vms;
using PciOperator.Kubernetes;

namespace PciOperator.Cli.Commands;

/// <summary>The options that every command has.</summary>
internal sealed class GlobalOptions
{
    /// <summary>A kubeconfig file.</summary>
    public Option<string?> Kubeconfig { get; } =
        new("--kubeconfig") { Description = "Kubeconfig file; without it $KUBECONFIG, else ~/.kube/config.", Recursive = true };

    /// <summary>A context of it.</summary>
    public Option<string?> Context { get; } =
        new("--context") { Description = "Context of the kubeconfig; without it the current one.", Recursive = true };

    /// <summary>The namespace of claims.</summary>
    public Option<string?> Namespace { get; } =
        new("--namespace", "-n") { Description = "Namespace of claims; without it the context's.", Recursive = true };

    /// <summary>How the answer is written.</summary>
    public Option<OutputFormat> Output { get; } =
        new("--output", "-o")
        {
            Description = "json, yaml, wide or name; without it a table for people.",
            Recursive = true,
            HelpName = "json|yaml|wide|name",
            CustomParser = result =>
            {
                if (Enum.TryParse(result.Tokens[0].Value, ignoreCase: true, out OutputFormat format) && format != OutputFormat.Table)
                    return format;
                result.AddError($"-o {result.Tokens[0].Value} is not known: json, yaml, wide or name.");
                return default;
            },
        };

    /// <summary>All of them.</summary>
    public IEnumerable<Option> All => [Kubeconfig, Context, Namespace, Output];
}

/// <summary>What commands are made with: the options that all have, and a session for each that runs.</summary>
internal sealed class Shell(CliIo io)
{
    /// <summary>What surrounds the program.</summary>
    public CliIo Io => io;

    /// <summary>The options that all have.</summary>
    public GlobalOptions Options { get; } = new();

    /// <summary>A command's action.</summary>
    public Func<ParseResult, CancellationToken, Task<int>> Run(Func<Session, Task<int>> action) =>
        async (parsed, ct) =>
        {
            using var session = new Session(this, parsed, ct);
            return await action(session);
        };
}

/// <summary>One command that runs: its options, the caller's access to the cluster, and where the answer goes.</summary>
internal sealed class Session(Shell shell, ParseResult parsed, CancellationToken ct) : IDisposable
{
    private EntityClient? _client;

    /// <summary>What surrounds the program.</summary>
    public CliIo Io => shell.Io;

    /// <summary>Ctrl-C.</summary>
    public CancellationToken Ct => ct;

    /// <summary>How the answer is written.</summary>
    public OutputFormat Format => parsed.GetValue(shell.Options.Output);

    /// <summary>The namespace of claims.</summary>
    public string Namespace => GivenNamespace ?? Open().Configuration.Namespace;

    /// <summary>The namespace of claims that the command line names; null: none.</summary>
    public string? GivenNamespace => Given(parsed.GetValue(shell.Options.Namespace));

    /// <summary>The API server's address.</summary>
    public string Server => Open().Configuration.Host;

    /// <summary>The API server, with the caller's own rights and no others.</summary>
    public IEntityClient Client => Open();

    /// <summary>The options by which kubectl gets to the same cluster.</summary>
    public IEnumerable<string> KubectlOptions
    {
        get
        {
            if (Given(parsed.GetValue(shell.Options.Kubeconfig)) is { } kubeconfig)
                yield return $"--kubeconfig={kubeconfig}";
            if (Given(parsed.GetValue(shell.Options.Context)) is { } context)
                yield return $"--context={context}";
        }
    }

    /// <summary>Writes answers.</summary>
    public Printer Printer => field ??= new Printer(Io, Format);

    /// <summary>Says something on standard error that the answer depends on.</summary>
    public async Task WarnAsync(string message)
    {
        await Io.Error.WriteLineAsync($"warning: {Plain.Text(message)}");
        await Io.Error.FlushAsync(Ct);
    }

    /// <summary>An option's or argument's value.</summary>
    public T? Value<T>(Option<T> option) => parsed.GetValue(option);

    /// <inheritdoc cref="Value{T}(Option{T})"/>
    public T? Value<T>(Argument<T> argument) => parsed.GetValue(argument);

    /// <inheritdoc/>
    public void Dispose() => _client?.Dispose();

    private EntityClient Open()
    {
        string? path = Given(parsed.GetValue(shell.Options.Kubeconfig)) ?? Given(Io.Environment("KUBECONFIG"));
        string? context = Given(parsed.GetValue(shell.Options.Context));
        return _client ??= new EntityClient(
            path is null && context is null ? ClusterAccess.Default() : ClusterAccess.FromKubeconfig(path, context),
            JsonTypeInfoResolver.Combine(ResourceJsonContext.WithOwnKinds, KubeVirtJsonContext.Default),
            Io.Time,
            userAgent: "kubectl-pci"
        );
    }

    private static string? Given(string? text) => string.IsNullOrEmpty(text) ? null : text;
}
