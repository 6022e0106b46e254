using Microsoft.Extensions.Logging;

namespace PciOperator.Host;

/// <summary>What the work on any claim is done with; each of them is all claims'.</summary>
/// <param name="Files">The host.</param>
/// <param name="StateDirectory">The agent's folder on it.</param>
/// <param name="Table">The claims.</param>
/// <param name="Reads">The looks that claims share.</param>
/// <param name="Guards">What keeps the host alive.</param>
/// <param name="Twins">Stable ids that are seen twice.</param>
/// <param name="Withheld">What is remembered against giving a device away.</param>
/// <param name="Cleaning">Resets, and what is remembered of them.</param>
/// <param name="Time">The present.</param>
/// <param name="Logger">Where what a person must know is said.</param>
internal sealed record ClaimTools(
    IHostFileSystem Files,
    string StateDirectory,
    ClaimTable Table,
    SharedReads Reads,
    Guards Guards,
    Twins Twins,
    WithheldMarks Withheld,
    DeviceCleaning Cleaning,
    TimeProvider Time,
    ILogger Logger
);
