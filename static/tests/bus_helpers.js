import { mockService } from "@web/../tests/web_test_helpers";

/**
 * Put a bus in the place of the real one.
 *
 * @param {Object} [methods] further ones of the service
 * @returns {Function} has the server say something: type and payload, heard at once
 */
export function mockBus(methods) {
    const heard = {};
    mockService("bus_service", {
        subscribe(type, callback) {
            (heard[type] ||= new Set()).add(callback);
        },
        unsubscribe(type, callback) {
            heard[type]?.delete(callback);
        },
        ...methods,
    });
    return (type, payload) => heard[type].forEach((callback) => callback(payload));
}
