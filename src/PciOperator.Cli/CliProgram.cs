using System.CommandLine;
using System.CommandLine.Parsing;
using System.Net;
using PciOperator.Cli.Commands;
using PciOperator.Cli.Output;
using PciOperator.Kubernetes;

namespace PciOperator.Cli;

/// <summary>From arguments to an exit code: whatever goes wrong is one sentence.</summary>
internal static class CliProgram
{
    /// <summary>Runs one command line.</summary>
    public static async Task<int> RunAsync(string[] args, CliIo io, CancellationToken ct = default)
    {
        try
        {
            int code = await InvokeAsync(args, io, ct);
            await io.Out.FlushAsync(CancellationToken.None);
            return code;
        }
        catch (IOException e) when (e.HResult == Errors.BrokenPipe)
        {
            // Whoever reads has enough, as head does.
            return ExitCodes.Ok;
        }
    }

    private static async Task<int> InvokeAsync(string[] args, CliIo io, CancellationToken ct)
    {
        ParseResult parsed = CommandTree.Build(io).Parse(args);
        if (parsed.Errors.Count > 0)
        {
            foreach (ParseError error in parsed.Errors)
                await Errors.SayAsync(io, error.Message);
            string command = CommandTree.NameOf(parsed);
            await io.Error.WriteLineAsync($"See '{command} --help'.");
            await io.Error.FlushAsync(ct);
            return ExitCodes.Usage;
        }

        try
        {
            return await parsed.InvokeAsync(
                new InvocationConfiguration
                {
                    Output = io.Out,
                    Error = io.Error,
                    EnableDefaultExceptionHandler = false,
                },
                ct
            );
        }
        catch (OperationCanceledException)
        {
            return ExitCodes.Interrupted;
        }
        catch (Exception error) when (Errors.Known(error) is { } known)
        {
            await io.Out.FlushAsync(CancellationToken.None);
            await Errors.SayAsync(io, known.Message);
            return known.ExitCode;
        }
    }
}

/// <summary>What goes wrong, as a sentence that says what to do.</summary>
internal static class Errors
{
    /// <summary>EPIPE as .NET gives it.</summary>
    public const int BrokenPipe = 32;

    /// <summary>Writes a sentence to standard error.</summary>
    public static async Task SayAsync(CliIo io, string message)
    {
        await io.Error.WriteLineAsync($"error: {Plain.Text(message)}");
        await io.Error.FlushAsync();
    }

    /// <summary>The sentence and exit code of an error that is not a defect; null: it is one.</summary>
    public static CliException? Known(Exception error) =>
        error switch
        {
            CliException cli => cli,
            KubeconfigException bad => new(ExitCodes.NoKubeconfig, $"{bad.Message} Set KUBECONFIG, or say --kubeconfig FILE."),
            ApiException { IsUnauthorized: true } => new(
                ExitCodes.Forbidden,
                "The API server doesn't know you (401): log in again, or choose another context with --context."
            ),
            ApiException { IsForbidden: true } forbidden => new(
                ExitCodes.Forbidden,
                $"{forbidden.Message.TrimEnd('.')}. Ask an administrator for that right, or choose another context with --context."
            ),
            ApiException { IsNotFound: true } missing => new(ExitCodes.NotFound, missing.Message),
            ApiException refused => new(ExitCodes.Failed, $"The API server refused: {refused.Message}"),
            HttpRequestException { StatusCode: null or HttpStatusCode.ServiceUnavailable } unreachable => new(
                ExitCodes.Unreachable,
                $"The API server can't be reached: {unreachable.Cause().TrimEnd('.')}. Check the cluster, the network, and --context."
            ),
            _ => null,
        };
}
