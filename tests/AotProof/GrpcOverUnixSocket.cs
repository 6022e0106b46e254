using System.Diagnostics;
using System.Globalization;
using Grpc.Core;
using Grpc.Net.Client;
using Microsoft.AspNetCore.Builder;
using PciOperator.Kubelet;
using PciOperator.Kubelet.Wire.PluginRegistration;
using PciOperator.Testing;

namespace PciOperator.AotProof;

/// <summary>The kubelet's registration of a plugin, served and asked over a Unix socket.</summary>
internal static class GrpcOverUnixSocket
{
    private const int Calls = 1000;

    /// <summary>Serves, asks, checks each answer, and prints what it cost.</summary>
    /// <returns>The exit code: 0 when every answer was right.</returns>
    public static async Task<int> RunAsync()
    {
        string folder = Directory.CreateTempSubdirectory("aot-proof").FullName;
        try
        {
            string socket = Path.Combine(folder, "reg.sock");
            var plugin = new Plugin(socket);
            await using WebApplication server = await GrpcOnSocket.ServeAsync(socket, plugin);
            using GrpcChannel channel = UnixSockets.Dial(socket);
            var client = new Registration.RegistrationClient(channel);
            string? wrong = await WrongAnswerAsync(client, plugin, socket);
            if (wrong is not null)
            {
                Console.Error.WriteLine($"grpc: {wrong}");
                return 1;
            }

            double ready = Cost.Age();
            long began = Stopwatch.GetTimestamp();
            for (int i = 0; i < Calls; i++)
                await client.GetInfoAsync(new InfoRequest());
            double each = Stopwatch.GetElapsedTime(began).TotalMicroseconds / Calls;
            return Cost.Print("grpc", ready, string.Create(CultureInfo.InvariantCulture, $"{each:0} µs a call over {Calls}"));
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    private static async Task<string?> WrongAnswerAsync(Registration.RegistrationClient client, Plugin plugin, string socket)
    {
        PluginInfo info = await client.GetInfoAsync(new InfoRequest());
        if (info is not { Type: "DRAPlugin", Name: "pcioperator.io" } || info.Endpoint != socket || info.SupportedVersions.Count != 2)
            return $"GetInfo answered {info}";
        await client.NotifyRegistrationStatusAsync(new RegistrationStatus { PluginRegistered = false, Error = "no such version" });
        if (plugin.Told is not { PluginRegistered: false, Error: "no such version" })
            return $"the plugin was told {plugin.Told}";
        try
        {
            await client.NotifyRegistrationStatusAsync(new RegistrationStatus { PluginRegistered = true, Error = "both" });
            return "a status that contradicts itself was taken";
        }
        catch (RpcException e) when (e.StatusCode == StatusCode.InvalidArgument && e.Status.Detail == Plugin.Contradiction)
        {
            return null;
        }
    }

    /// <summary>A plugin as the kubelet meets it.</summary>
    private sealed class Plugin(string socket) : Registration.RegistrationBase
    {
        public const string Contradiction = "registered, and an error";

        public RegistrationStatus? Told { get; private set; }

        public override Task<PluginInfo> GetInfo(InfoRequest request, ServerCallContext context)
        {
            var info = new PluginInfo
            {
                Type = "DRAPlugin",
                Name = "pcioperator.io",
                Endpoint = socket,
            };
            info.SupportedVersions.AddRange(["v1.DRAPlugin", "v1beta1.DRAPlugin"]);
            return Task.FromResult(info);
        }

        public override Task<RegistrationStatusResponse> NotifyRegistrationStatus(RegistrationStatus request, ServerCallContext context)
        {
            if (request.PluginRegistered && request.Error.Length > 0)
                throw new RpcException(new Status(StatusCode.InvalidArgument, Contradiction));
            Told = request;
            return Task.FromResult(new RegistrationStatusResponse());
        }
    }
}
